"""Ray Serve as the link: it starts replicas, watches their health, replaces them, and carries calls to them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatusOverview

from cluster.autoscaling import ImagesPolicy
from cluster.membership import MEMBERSHIP
from cluster.messages import About, Failure, Message, Report
from cluster.open_port import bind_to_node
from cluster.ray_process import stop_ray
from cluster.replica import Replica, ReplicaSettings
from cluster.router import ChosenReplicaRouter
from consts import VERSION
from engine.errors import first_line
from engine.request import DrawingRequest

APPLICATION, DEPLOYMENT = "dalle", "Replica"
_CALLS_PER_REPLICA = 100_000  # no limit: the front has the queue
_STOP_MARGIN_SECONDS = 30  # that Serve gives a replica beyond --drain_timeout
_HEALTH_PERIOD_SECONDS, _HEALTH_TIMEOUT_SECONDS = 2, 15
_UPSCALE_SECONDS, _DOWNSCALE_SECONDS, _METRICS_SECONDS = 5, 60, 1
_CODE = ("cluster", "engine", "host", "models", "consts.py", "dalle_model.py")


@dataclass(frozen=True)
class Scale:
    """How many replicas: `least` to `most`, by the images that wait."""

    least: int
    most: int
    is_one_a_node: bool = False  # a replica takes a whole machine
    gpus_each: int = 0
    upscale_seconds: float = _UPSCALE_SECONDS
    downscale_seconds: float = _DOWNSCALE_SECONDS


class ServeLink:
    """The replicas of one Serve application. Satisfies `Link`."""

    def __init__(
        self, settings: ReplicaSettings, scale: Scale, drain_timeout: int, replica: type[Replica] = Replica, owns_ray: bool = True
    ) -> None:
        """Deploy the replicas, or find them running with the same settings and code. Ray runs already."""
        serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
        logging.getLogger("ray.serve").setLevel(logging.ERROR)  # the front logs what matters, in the server's format
        number: dict[str, object] = {"num_replicas": scale.least}
        if scale.most > scale.least:
            number = {"autoscaling_config": _autoscaling(scale, settings.max_batch_size)}
        deployment = serve.deployment(
            replica,
            name=DEPLOYMENT,
            max_ongoing_requests=_CALLS_PER_REPLICA,
            max_replicas_per_node=1 if scale.is_one_a_node else None,
            ray_actor_options={"num_cpus": 1, "num_gpus": scale.gpus_each},
            graceful_shutdown_timeout_s=drain_timeout + _STOP_MARGIN_SECONDS,
            graceful_shutdown_wait_loop_s=0.5,
            health_check_period_s=_HEALTH_PERIOD_SECONDS,
            health_check_timeout_s=_HEALTH_TIMEOUT_SECONDS,
            request_router_config=RequestRouterConfig(request_router_class=ChosenReplicaRouter),
            logging_config={"log_level": "WARNING", "enable_access_log": False},  # or it logs each question
            **number,
        )
        # Serve replaces replicas whose version has changed, a few at a time, and by itself each start is a new version. There is
        # no public way to set it: tests/cluster/test_ray.py fails if this one goes.
        deployment._version = _version(repr(settings), replica.__name__)
        target = serve.RunTarget(deployment.bind(settings, bind_to_node), APPLICATION, route_prefix=None)
        serve.run_many([target], wait_for_applications_running=False)
        self._handle = DeploymentHandle(DEPLOYMENT, APPLICATION)  # not Serve's, which it keeps for the next link, with its loop
        self._owns_ray = owns_ray

    def watch(self, on_change: Callable[[Collection[str]], None]) -> None:
        """Call `on_change` with the names of the replicas that run, now and whenever they change."""
        MEMBERSHIP.watch(on_change)
        self._stream = self._handle.options(stream=True)  # starts Serve's router, on this event loop

    async def describe(self, replica: str) -> About | Failure:
        """Ask a replica what it is."""
        answer: About | Failure = await _result(self._handle.describe.remote(replica=replica))
        return answer

    async def ask(self, replica: str, front: str, images: int) -> Report:
        """Ask a replica how it is."""
        answer: Report = await _result(self._handle.ask.remote(front, images, replica=replica))
        return answer

    async def draw(self, replica: str, request: DrawingRequest, has_progress: bool) -> AsyncGenerator[Sequence[Message], None]:
        """Draw a request."""
        call = self._stream.draw.remote(request, has_progress, replica=replica)
        try:
            async for messages in call:
                yield messages
        finally:
            call.cancel()  # without effect on one that is done

    async def count_text_tokens(self, replica: str, prompt: str) -> int:
        """Return how many tokens of a prompt the model reads."""
        return int(await _result(self._handle.count_text_tokens.remote(prompt, replica=replica)))

    def kill(self, replica: str) -> None:
        """End the process of a replica that hangs: Serve itself would give it the time of an orderly stop."""
        name = ReplicaID(replica, DeploymentID(DEPLOYMENT, APPLICATION)).to_full_id_str()
        ray.kill(ray.get_actor(name, namespace="serve"))

    def trouble(self) -> str | None:
        """Return why there are fewer replicas than wanted, in Serve's words."""
        try:
            application: ApplicationStatusOverview = serve.status().applications[APPLICATION]
            status = application.deployments[DEPLOYMENT]
        except Exception as error:
            return first_line(error)
        return " ".join(status.message.split())[-2000:] or None

    def close(self) -> None:
        """Stop the replicas if Ray was started for them; otherwise leave them to the next front."""
        logging.getLogger("ray.serve").setLevel(logging.CRITICAL)  # it logs an error if its event loop has ended
        if self._owns_ray:
            stop_ray()


async def _result(call: Any) -> Any:
    """Wait for the answer to a call. Ray cancels a call only if it is told to."""
    try:
        return await call
    except asyncio.CancelledError:
        call.cancel()
        raise


def gpu_count() -> int:
    """Return how many GPUs the cluster has."""
    return int(ray.cluster_resources().get("GPU", 0))


def _autoscaling(scale: Scale, images_per_replica: int) -> AutoscalingConfig:
    return AutoscalingConfig(
        min_replicas=scale.least,
        max_replicas=scale.most,
        upscale_delay_s=scale.upscale_seconds,
        downscale_delay_s=scale.downscale_seconds,
        metrics_interval_s=_METRICS_SECONDS,
        look_back_period_s=2 * _METRICS_SECONDS,
        policy=AutoscalingPolicy(policy_function=ImagesPolicy, policy_kwargs={"images_per_replica": images_per_replica}),
    )


def _version(*parts: str) -> str:
    """Return a hash of what a replica runs: its settings and its code."""
    digest = hashlib.sha256("\n".join([VERSION, *parts]).encode())
    root = Path(__file__).parents[1]
    for name in _CODE:
        path = root / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in (".py", ".c", ".h", ".json"):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
