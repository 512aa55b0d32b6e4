"""The model over several machines, from the server's settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from cluster.front_queue import ClusterLimits
from cluster.ray_process import start_ray
from cluster.remote_engine import RemoteEngine
from cluster.replica import ReplicaSettings
from dalle_model import DalleModel, Observer
from host.threads import usable_threads


@dataclass(frozen=True)
class ClusterSettings:
    """What a cluster is started with. The bounds of the queue are for all machines together, other counts for one."""

    replica: ReplicaSettings
    replicas: int | None  # None: as many as the waiting images need
    max_replicas: int
    ray_address: str | None  # None: Ray is started on this machine
    max_queue: int | None
    batch_per_caller: float = inf
    queue_per_caller: float = inf
    request_timeout: float | None = None
    drain_timeout: int = 60

    @property
    def most(self) -> int:
        """The most replicas."""
        return self.max_replicas if self.replicas is None else self.replicas


def start_cluster(settings: ClusterSettings, observer: Observer | None = None) -> DalleModel:
    """Start the replicas, or join those that run with the same settings, and wait for the first.

    Raises ClusterUnusable, and what `DalleModel` raises.
    """
    start_ray(settings.ray_address, settings.most)
    from cluster.ray_link import Scale, ServeLink, gpu_count

    own = settings.replica
    is_local = settings.ray_address is None
    uses_gpu = own.device.startswith("cuda") or (own.device == "auto" and gpu_count() > 0)
    if is_local and not uses_gpu:  # the replicas share this machine's cores
        own = replace(own, threads=own.threads or max(1, usable_threads() // settings.most))
    scale = Scale(
        least=settings.replicas or 1, most=settings.most, is_one_a_node=not is_local and not uses_gpu, gpus_each=int(uses_gpu)
    )
    limits = ClusterLimits(
        own.max_batch_size, settings.most, settings.batch_per_caller, settings.max_queue, settings.queue_per_caller
    )
    link = ServeLink(own, scale, settings.drain_timeout, owns_ray=is_local)
    engine = RemoteEngine(link, limits, observer, own.step_timeout)
    return DalleModel.over(engine, own.version, settings.request_timeout)
