"""Requirements of all runners: a row with the same bits in any batch, prompts in a cache, pictures of any grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.runners import LogitsRunner, default_cache, logits_runner_on
from engine.runners.native.library import load_library
from engine.runners.native.openvino_ends import NATIVE, OpenVinoEnds
from engine.runners.native.runner import NativeRunner
from engine.runners.openvino.compiled import PAGED, compile_checkpoint
from engine.runners.openvino.precision import CPU_PRECISIONS
from engine.runners.openvino.runner import OpenVinoRunner
from engine.runners.runner import PROMPT_CACHE_SIZE
from engine.runners.torch.runner import TorchRunner
from engine.weights.checkpoint import Checkpoint, load_checkpoint
from tests.cpu import skip_unless_it_runs

MakeRunner = Callable[[str, str], LogitsRunner]

THREADS = 2
ON_CPU = ["native", "openvino"]
KINDS = ["torch", *(f"{kind} {precision}" for kind in ON_CPU for precision in CPU_PRECISIONS)]
PROMPT = [0, 5, 6, 2]
OTHERS = [[0, *range(10, 50), 2], [0, 7, 2], [0, *range(20, 82), 2]]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint("tiny", progress=False)


@pytest.fixture(scope="module")
def make_runner(checkpoint: Checkpoint) -> MakeRunner:
    """Return a function that creates the runner of a kind and precision, once."""

    @cache
    def make(kind: str, name: str) -> LogitsRunner:
        skip_unless_it_runs(kind)
        return logits_runner_on(checkpoint, CPU_PRECISIONS[name], THREADS, default_cache(), runner=kind)

    return make


@pytest.fixture(scope="module", params=KINDS)
def runner(request: pytest.FixtureRequest, checkpoint: Checkpoint, make_runner: MakeRunner) -> LogitsRunner:
    if request.param == "torch":
        return TorchRunner(checkpoint, torch.device("cpu"))
    return make_runner(*request.param.split())


def forced_tokens(config: Any, count: int = 256) -> list[int]:
    rng = Random(1)
    return [config.decoder_start_token_id, *(rng.randrange(config.logit_count) for _ in range(count - 1))]


def alone(runner: LogitsRunner, forced: list[int], prompt: list[int], negative: list[int] | None = None) -> NDArray[Any]:
    runner.reset()
    runner.admit([runner.encode(prompt, negative)])
    logits = np.stack([runner.step([token], [i])[0].copy() for i, token in enumerate(forced)])
    runner.rearrange([])
    return logits


def test_rows_have_the_same_bits_alone_and_while_others_join_and_leave(runner: LogitsRunner, checkpoint: Checkpoint) -> None:
    """Two images are watched: one without a negative prompt, one with."""
    forced = forced_tokens(checkpoint.config)
    negatives = (None, OTHERS[0])
    expected = [alone(runner, forced, PROMPT, negative) for negative in negatives]
    assert all(each.std() > 0.5 for each in expected) and not np.array_equal(expected[0], expected[1])
    rng = Random(2)
    positions = [0, 0]  # of the watched images and of the others
    watched = [0, 1]
    runner.admit([runner.encode(PROMPT, negative) for negative in negatives])
    batch_sizes = set()
    while positions[watched[0]] < 256:
        tokens = [forced[position] for position in positions]
        logits = runner.step(tokens, positions)
        for place, each in zip(watched, expected, strict=True):
            assert np.array_equal(logits[place], each[positions[place]]), f"{place} at {positions}"
        batch_sizes.add(len(positions))
        positions = [position + 1 for position in positions]
        order = list(range(len(positions)))
        for i in reversed(order):
            if i not in watched and (positions[i] == 256 or rng.random() < 0.03):  # it leaves, and the last one takes its place
                order[order.index(i)] = order[-1]
                order.pop()
        if len(order) < len(positions):
            runner.rearrange(order)
            positions, watched = [positions[i] for i in order], [order.index(place) for place in watched]
        if rng.random() < 0.25 and len(positions) < 12:
            joining = rng.choices(OTHERS, k=rng.randint(1, 3))
            runner.admit([runner.encode(prompt, rng.choice([None, *OTHERS])) for prompt in joining])
            positions += [0] * len(joining)
    runner.rearrange([])
    assert len(batch_sizes) > 5


def test_a_reset_runner_draws_as_a_new_one(runner: LogitsRunner, checkpoint: Checkpoint) -> None:
    forced = forced_tokens(checkpoint.config, 40)
    before = alone(runner, forced, PROMPT)
    runner.admit([runner.encode(prompt) for prompt in OTHERS])
    runner.step([1, 2, 3], [0, 0, 0])
    assert np.array_equal(alone(runner, forced, PROMPT), before)


def test_a_picture_is_the_same_alone_and_among_others_and_may_be_wide(runner: LogitsRunner, checkpoint: Checkpoint) -> None:
    grid = np.array([*forced_tokens(checkpoint.config)[1:], 3], dtype=np.int64).reshape(16, 16)
    one = runner.detokenize(grid[None])
    assert one.shape == (1, 256, 256, 3) and one.dtype == np.uint8 and one.std() > 10
    for picture in runner.detokenize(np.stack([grid, grid[::-1], grid]))[::2]:
        assert np.array_equal(picture, one[0])
    assert runner.detokenize(np.hstack([grid, grid])[None]).shape == (1, 256, 512, 3)


@pytest.mark.parametrize("kind", ON_CPU)
def test_precisions_follow_float32(kind: str, checkpoint: Checkpoint, make_runner: MakeRunner) -> None:
    forced = forced_tokens(checkpoint.config, 100)
    exact = alone(TorchRunner(checkpoint, torch.device("cpu")), forced, PROMPT)
    errors = {}
    for name in CPU_PRECISIONS:
        ours = alone(make_runner(kind, name), forced, PROMPT)
        errors[name] = np.abs(ours - exact).mean() / exact.std()
    assert errors["float32"] < 1e-5 < errors["bfloat16"] < 0.03 and 1e-5 < errors["int8"] < 0.06 and 1e-5 < errors["int4"] < 0.2


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_rounded_pixels_are_close_to_exact_ones(name: str, checkpoint: Checkpoint, make_runner: MakeRunner) -> None:
    grids = np.array(forced_tokens(checkpoint.config, 513)[1:]).reshape(2, 16, 16)
    grids[1] = grids[1][::4, ::4].repeat(4, 0).repeat(4, 1)  # patches of one colour or pattern
    exact, ours = (make_runner("openvino", each).detokenize(grids).astype(float) for each in ("float32", name))
    signal_to_noise = 10 * np.log10(255**2 / ((ours - exact) ** 2).mean())
    assert 30 < signal_to_noise < 70, "in decibels; above 70 nothing was rounded"


class CountingGraph:
    """A compiled encoder that records the prompts that its requests encode."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self.encoded: list[tuple[int, ...]] = []

    def create_infer_request(self) -> CountingGraph:
        self._request = self._compiled.create_infer_request()
        return self

    def infer(self) -> None:
        self.encoded.append(tuple(self._request.get_tensor("tokens").data.tolist()))
        self._request.infer()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


# Prompts that fill the cache, one of them again, then two more: the least recently used ones are evicted. OpenVINO's runner keeps
# the first one, from which an image is drawn.
@pytest.mark.parametrize(("kind", "again"), [("openvino", [2]), ("native", [2, 0])])
def test_prompts_are_encoded_once_while_they_are_cached(kind: str, again: list[int], checkpoint: Checkpoint) -> None:
    skip_unless_it_runs(kind)
    compiled = compile_checkpoint(checkpoint, CPU_PRECISIONS["float32"], THREADS, PAGED if kind == "openvino" else NATIVE)
    graph: Any = CountingGraph(compiled.parts["encoding"])
    compiled = replace(compiled, parts={**compiled.parts, "encoding": graph})
    runner: Any = (
        OpenVinoRunner(compiled)
        if kind == "openvino"
        else NativeRunner(OpenVinoEnds(compiled), load_library(default_cache()), THREADS)
    )
    graph.encoded.clear()
    texts = [(0, 5 + number, 2) for number in range(PROMPT_CACHE_SIZE + 2)]
    runner.admit([runner.encode(texts[0])])
    for text in (*texts[:PROMPT_CACHE_SIZE], texts[1], *texts[-2:], *(texts[index] for index in (1, 3, 2, 0))):
        runner.encode(text)
    assert graph.encoded == [*texts, *(texts[index] for index in again)]
