"""Fixtures for the engine's tests: an engine of four slots with Tiny's weights, on the runner that `auto` chooses here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from engine.batching.engine import Engine
from engine.runners import LogitsRunner, SamplingRunner
from engine.upstream.modules import VQGanDetokenizer
from engine.weights.checkpoint import ModelFiles
from engine.weights.detokenizer import attend_over_any_grid
from tests.engine.loading import load_logits_runner
from tests.engine.watched_runner import WatchedRunner

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def loaded(request: pytest.FixtureRequest) -> tuple[ModelFiles, LogitsRunner]:
    """Load Tiny. A test can choose another runner than `auto` by indirect parametrization."""
    return load_logits_runner("tiny", device="cpu", runner=getattr(request, "param", "auto"), threads=1)


@pytest.fixture
def runner(loaded: tuple[ModelFiles, LogitsRunner]) -> WatchedRunner:
    loaded[1].reset()
    return WatchedRunner(loaded[1])


@pytest.fixture
def make_engine(loaded: tuple[ModelFiles, LogitsRunner], runner: WatchedRunner) -> Iterator[MakeEngine]:
    """Return a function that makes engines; all are closed after the test."""
    engines: list[Engine] = []
    files = loaded[0]

    def make(max_batch_size: int = 4, *arguments: Any) -> Engine:
        engines.append(Engine(lambda: (files, SamplingRunner(runner, files.config)), max_batch_size, *arguments))
        return engines[-1]

    yield make
    runner.go()
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine()


@pytest.fixture(scope="module")
def vqgan() -> nn.Module:
    """Return min-dalle's own detokenizer with random weights, norms included, whose images have full contrast."""
    torch.manual_seed(0)
    whole = attend_over_any_grid(VQGanDetokenizer()).eval()
    with torch.no_grad():
        for part in whole.modules():
            if isinstance(part, nn.GroupNorm):
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.2)
        last: nn.Conv2d = whole.decoder.conv_out  # type: ignore[union-attr, assignment]
        last.weight.mul_(5)
    return whole
