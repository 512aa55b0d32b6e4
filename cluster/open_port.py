"""A port that Ray Serve opens on all addresses, whatever address Ray was started with. Runs in a replica's process."""

from __future__ import annotations

from typing import Any


def bind_to_node() -> None:
    """Have the replica's gRPC server, which starts after the model, listen on the node's own address only.

    The front calls it, with the token; others need not reach it. There is no setting; tests/cluster/test_ray.py looks at the
    addresses.
    """
    import ray
    from ray.serve._private import replica

    bind = replica.add_port_to_grpc_server
    address = ray.util.get_node_ip_address()

    def bind_here(server: Any, where: str) -> int:
        return int(bind(server, where.replace("[::]", address)))

    replica.add_port_to_grpc_server = bind_here
