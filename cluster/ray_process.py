"""Ray: started on this machine for this process alone, or joined where it runs already."""

from __future__ import annotations

import os
import secrets
from collections.abc import MutableMapping
from typing import Any

from engine.errors import DalleError, first_line

# Calls go straight from the front's own event loop to a replica, past Ray's task system: a third of its CPU.
_CALLS = {
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**30),  # bytes; gRPC's default, 4 MiB, is 21 images
}
_OBJECT_STORE_BYTES = 200 * 2**20  # images pass through it; one takes 200 kB


class ClusterUnusable(DalleError):
    """A cluster that cannot be started or joined; the message says why, with the remedy."""


def prepare(environment: MutableMapping[str, str], address: str | None) -> None:
    """Set Ray's variables, which it reads while it is imported. What is set already stays.

    Every call needs a token, so that Ray's ports do not open the machine to whoever reaches them.
    """
    environment.setdefault("RAY_AUTH_MODE", "token")
    environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    environment.update(_CALLS)
    environment.setdefault("RAY_worker_niceness", "0")  # Ray's default, 15, starves replicas on a busy machine
    if address is None and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & environment.keys():
        environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # known to the processes that this one starts


def start_ray(address: str | None, places: int) -> None:
    """Join the cluster at an address; without one, start Ray on this machine's loopback, with room for so many replicas.

    Raises ClusterUnusable.
    """
    try:
        prepare(os.environ, address)
        import ray
        import ray.serve
    except ImportError as error:
        raise ClusterUnusable(
            f"--replicas needs Ray, and {error.name or 'part of it'} is missing: pip install -r requirements-cluster.txt"
        ) from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
            return
        ray.init(
            address="local",
            num_cpus=places,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            object_store_memory=_OBJECT_STORE_BYTES,
            **quiet,
        )
    except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and its own
        where = "on this machine" if address is None else f"at {address}"
        remedy = "its logs are in /tmp/ray" if address is None else "see docs/cluster.md for the address and the token"
        raise ClusterUnusable(f"Ray could not be reached {where} ({first_line(error)}): {remedy}") from error


def stop_ray() -> None:
    """Leave the cluster. What this process started ends; a cluster that was joined goes on."""
    import ray

    ray.shutdown()
