"""Images a second by the number of machines, and what the front costs, with simulated machines: a step sleeps a fixed time.

So that one machine can carry several: a step's time is that of a real one, and takes no CPU. Everything else is the real thing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.calling import PROMPTS
from benchmarks.figures import Figure, Figures
from benchmarks.plan import Plan
from cluster.ray_process import start_ray, stop_ray
from cluster.remote_engine import ClusterLimits, RemoteEngine
from cluster.replica import Replica, ReplicaSettings
from dalle_model import DalleModel, DrawingRequest
from engine.runners import SamplingRunner

MACHINES = (1, 2, 4, 8)
STEP_SECONDS = 0.02  # an image takes 5 s
BATCH = 4
ROUNDS_OF_BATCHES = 4
WAITING = 2  # callers for each machine beyond its batch


class _SlowRunner:
    """A runner whose steps sleep and repeat the logits of a real step."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._logits: dict[int, NDArray[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Sleep, and return logits of the right shape."""
        count = len(tokens)
        if count not in self._logits:
            self._logits[count] = np.array(self._runner.step(tokens, positions))
        time.sleep(STEP_SECONDS)
        return self._logits[count]


class SimulatedReplica(Replica):
    """A replica with Tiny, whose steps take a fixed time."""

    def _load(self) -> DalleModel:
        model = super()._load()
        engine: Any = model._engine
        batch = engine._batch
        batch.runner = SamplingRunner(_SlowRunner(batch.runner.logits_runner), engine.config)
        return model


def measure_cluster(plan: Plan, figures: Figures) -> None:
    """Measure 1 to 8 machines, in each round."""
    start_ray(None, max(MACHINES))
    try:
        for machines in tqdm(MACHINES, desc="cluster", unit="size"):
            model = _start(machines)
            for _ in range(plan.rounds):
                _measure(model, machines, figures)
            model.close(5)
    finally:
        stop_ray()


def _start(machines: int) -> DalleModel:
    """Have so many machines run, and return the model over them."""
    from cluster.ray_link import Scale, ServeLink

    settings = ReplicaSettings("tiny", threads=1, max_batch_size=BATCH)
    link = ServeLink(settings, Scale(machines, machines), drain_timeout=60, replica=SimulatedReplica, owns_ray=False)
    engine = RemoteEngine(link, ClusterLimits(BATCH, machines, inf, None, inf))
    while engine.state.machines < machines:
        time.sleep(0.1)
    return DalleModel.over(engine, "tiny")


def _measure(model: DalleModel, machines: int, figures: Figures) -> None:
    images = machines * BATCH * ROUNDS_OF_BATCHES
    began, busy = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(machines * (BATCH + WAITING)) as callers:
        for done in callers.map(lambda number: _draw(model, number), range(images)):
            assert len(done) == 1
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    lasted = Figure("cluster", f"time an image, simulated machines: {machines}", "ms", "share", "without any loss")
    figures.add(lasted, 1000 * seconds / images, 1000 * 256 * STEP_SECONDS / (machines * BATCH))
    figures.add(Figure("cluster", f"CPU of the front, an image, machines: {machines}", "ms"), 1000 * cpu / images)


def _draw(model: DalleModel, number: int) -> list[Any]:
    return model.start(DrawingRequest(PROMPTS[number % len(PROMPTS)], (number,))).result(lambda: False)
