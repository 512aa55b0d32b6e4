"""Images a second by the number of machines, and what the front costs, with simulated machines: a step sleeps a fixed time.

So that one machine can carry several: a step's time is that of a real one, and takes no CPU. Everything else is the real thing.
The front's CPU is compared with that of a process that draws by itself, its engine's thread left out.
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
from cluster.front_queue import ClusterLimits
from cluster.ray_process import start_ray, stop_ray
from cluster.remote_engine import RemoteEngine
from cluster.replica import Replica, ReplicaSettings
from dalle_model import DalleModel, DrawingRequest
from engine.runners import SamplingRunner
from engine.runners.runner import Draw, Drawn
from engine.runners.sampling import draw_with_numpy

MACHINES = (1, 2, 4, 8)
STEP_SECONDS = 0.02  # an image takes 5 s
BATCH = 4
ROUNDS_OF_BATCHES = 4
WAITING = 2  # callers for each machine beyond its batch
IDLE_SECONDS = 10
_SETTINGS = ReplicaSettings("tiny", threads=1, max_batch_size=BATCH)


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

    def draw(self, tokens: Sequence[int], positions: Sequence[int], draws: Sequence[Draw], steps: int) -> Drawn:
        """Draw one token of each image from such logits."""
        return draw_with_numpy(self.step(tokens, positions), positions, draws)


class SimulatedReplica(Replica):
    """A replica with Tiny, whose steps take a fixed time."""

    @property
    def model(self) -> DalleModel:
        """The model with its simulated runner."""
        return self._loaded

    def _load(self) -> DalleModel:
        model = super()._load()
        engine: Any = model._engine
        batch = engine._batch
        batch.runner = SamplingRunner(_SlowRunner(batch.runner.logits_runner), engine.config)
        return model


def measure_cluster(plan: Plan, figures: Figures) -> None:
    """Measure a process that draws by itself, then 1 to 8 machines, in each round."""
    alone = [_cpu_alone() for _ in range(plan.rounds)]
    start_ray(None, max(MACHINES))
    try:
        for machines in tqdm(MACHINES, desc="cluster", unit="size"):
            model = _start(machines)
            for cpu in alone:
                _measure(model, machines, cpu, figures)
            model.close(5)
    finally:
        stop_ray()


def _cpu_alone() -> float:
    """Return the CPU time of an image, in seconds, in a process that draws it by itself; without the engine's."""
    replica = SimulatedReplica(_SETTINGS)
    engine: Any = replica.model._engine
    clock = time.pthread_getcpuclockid(engine._thread.ident)
    before = time.process_time() - time.clock_gettime(clock)
    images = _draw_all(replica.model, 1)
    cpu = time.process_time() - time.clock_gettime(clock) - before
    replica.model.close(5)
    return cpu / images


def _start(machines: int) -> DalleModel:
    """Have so many machines run, and return the model over them."""
    from cluster.ray_link import Scale, ServeLink

    link = ServeLink(_SETTINGS, Scale(machines, machines), drain_timeout=60, replica=SimulatedReplica, owns_ray=False)
    engine = RemoteEngine(link, ClusterLimits(BATCH, machines, inf, None, inf))
    while engine.state.machines < machines:
        time.sleep(0.1)
    return DalleModel.over(engine, "tiny")


def _measure(model: DalleModel, machines: int, cpu_alone: float, figures: Figures) -> None:
    busy = time.process_time()
    time.sleep(IDLE_SECONDS)
    idle = (time.process_time() - busy) / IDLE_SECONDS
    began, busy = time.perf_counter(), time.process_time()
    images = _draw_all(model, machines)
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    lasted = Figure("cluster", f"time an image, simulated machines: {machines}", "ms", "share", "without any loss")
    figures.add(lasted, 1000 * seconds / images, 1000 * 256 * STEP_SECONDS / (machines * BATCH))
    cost = Figure("cluster", f"CPU of the front, an image, machines: {machines}", "ms", "lasts", "without Ray")
    figures.add(cost, 1000 * (cpu - idle * seconds) / images, 1000 * cpu_alone)
    figures.add(Figure("cluster", f"CPU of the front, a second without work, machines: {machines}", "ms"), 1000 * idle)


def _draw_all(model: DalleModel, machines: int) -> int:
    """Have more callers than a number of machines draw at once; return how many images they drew."""
    images = machines * BATCH * ROUNDS_OF_BATCHES
    with ThreadPoolExecutor(machines * (BATCH + WAITING)) as callers:
        for done in callers.map(lambda number: _draw(model, number), range(images)):
            assert len(done) == 1
    return images


def _draw(model: DalleModel, number: int) -> list[Any]:
    return model.start(DrawingRequest(PROMPTS[number % len(PROMPTS)], (number,))).result(lambda: False)
