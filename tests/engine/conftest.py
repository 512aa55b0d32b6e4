"""Give the engine's tests an engine of four slots on Tiny's weights, and its runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from engine.checkpoint import Checkpoint, load_checkpoint
from engine.engine import Engine
from engine.runners.torch import TorchRunner
from tests.engine.watched_runner import WatchedRunner

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def loaded() -> tuple[Checkpoint, TorchRunner]:
    checkpoint = load_checkpoint("tiny", progress=False)
    return checkpoint, TorchRunner(checkpoint, torch.device("cpu"))


@pytest.fixture
def runner(loaded: tuple[Checkpoint, TorchRunner]) -> WatchedRunner:
    loaded[1].reset()
    return WatchedRunner(loaded[1])


@pytest.fixture
def make_engine(loaded: tuple[Checkpoint, TorchRunner], runner: WatchedRunner) -> Iterator[MakeEngine]:
    """Make engines that are closed in the end."""
    engines: list[Engine] = []

    def make(max_batch_size: int = 4, *arguments: Any) -> Engine:
        engines.append(Engine(lambda: (loaded[0], runner), max_batch_size, *arguments))
        return engines[-1]

    yield make
    runner.go()
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine()
