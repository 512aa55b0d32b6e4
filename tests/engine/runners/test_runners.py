"""What every runner must do: the same row in any batch to the bit, prompts and pages that come and go, pictures of any grid."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.runners import Runner, default_cache, runner_on
from engine.runners.native import runner as native
from engine.runners.openvino import prompts
from engine.runners.openvino.precision import PRECISIONS
from engine.runners.torch.runner import TorchRunner
from engine.weights.checkpoint import Checkpoint, load_checkpoint
from tests.cpu import skip_unless_it_runs

MakeRunner = Callable[[str, str], Runner]

THREADS = 2
ON_CPU = ["native", "openvino"]
KINDS = ["torch", *(f"{kind} {precision}" for kind in ON_CPU for precision in PRECISIONS)]
PROMPT = [0, 5, 6, 2]
OTHERS = [[0, *range(10, 50), 2], [0, 7, 2], [0, *range(20, 82), 2]]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint("tiny", progress=False)


@pytest.fixture(scope="module")
def make_runner(checkpoint: Checkpoint) -> MakeRunner:
    """Give the runner of a kind and a precision; it is made once."""

    @cache
    def make(kind: str, name: str) -> Runner:
        skip_unless_it_runs(kind)
        return runner_on(checkpoint, PRECISIONS[name], THREADS, default_cache(), runner=kind)

    return make


@pytest.fixture(scope="module", params=KINDS)
def runner(request: pytest.FixtureRequest, checkpoint: Checkpoint, make_runner: MakeRunner) -> Runner:
    if request.param == "torch":
        return TorchRunner(checkpoint, torch.device("cpu"))
    return make_runner(*request.param.split())


def forced_tokens(config: Any, count: int = 256) -> list[int]:
    rng = Random(1)
    return [config.decoder_start_token_id, *(rng.randrange(config.logit_count) for _ in range(count - 1))]


def alone(runner: Runner, forced: list[int], prompt: list[int]) -> NDArray[Any]:
    runner.reset()
    runner.admit([runner.encode(prompt)])
    logits = np.stack([runner.step([token], [i])[0].copy() for i, token in enumerate(forced)])
    runner.rearrange([])
    return logits


def test_a_row_is_the_same_to_the_bit_alone_and_while_others_join_and_leave(runner: Runner, checkpoint: Checkpoint) -> None:
    forced = forced_tokens(checkpoint.config)
    expected = alone(runner, forced, PROMPT)
    assert expected.std() > 0.5
    rng = Random(2)
    positions = [0]  # of the image that is watched, and of those beside it
    watched = 0
    runner.admit([runner.encode(PROMPT)])
    batch_sizes = set()
    while positions[watched] < 256:
        tokens = [forced[position] for position in positions]
        logits = runner.step(tokens, positions)
        assert np.array_equal(logits[watched], expected[positions[watched]]), f"at {positions}"
        batch_sizes.add(len(positions))
        positions = [position + 1 for position in positions]
        order = list(range(len(positions)))
        for i in reversed(order):
            if i != watched and (positions[i] == 256 or rng.random() < 0.03):  # it leaves, and the last one takes its place
                order[order.index(i)] = order[-1]
                order.pop()
        if len(order) < len(positions):
            runner.rearrange(order)
            positions, watched = [positions[i] for i in order], order.index(watched)
        if rng.random() < 0.25 and len(positions) < 12:
            joining = rng.choices(OTHERS, k=rng.randint(1, 3))
            runner.admit([runner.encode(prompt) for prompt in joining])
            positions += [0] * len(joining)
    runner.rearrange([])
    assert len(batch_sizes) > 5


def test_a_reset_runner_draws_as_a_new_one(runner: Runner, checkpoint: Checkpoint) -> None:
    forced = forced_tokens(checkpoint.config, 40)
    before = alone(runner, forced, PROMPT)
    runner.admit([runner.encode(prompt) for prompt in OTHERS])
    runner.step([1, 2, 3], [0, 0, 0])
    assert np.array_equal(alone(runner, forced, PROMPT), before)


def test_a_picture_is_the_same_alone_and_among_others_and_may_be_wide(runner: Runner, checkpoint: Checkpoint) -> None:
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
    for name in PRECISIONS:
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


# With room for two: OpenVINO's runner also keeps the prompts that are drawn from.
@pytest.mark.parametrize(("kind", "again"), [("openvino", [1]), ("native", [1, 0])])
def test_prompts_are_encoded_once_while_they_are_known(
    kind: str, again: list[int], make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (prompts, native):
        monkeypatch.setattr(module, "KEPT_PROMPTS", 2)
    runner: Any = make_runner(kind, "float32")
    runner.reset()
    holder = runner._prompts if kind == "openvino" else runner
    encode, encoded = holder._encode, []

    def noting(tokens: tuple[int, ...], *rest: int) -> Any:
        encoded.append(tokens)
        return encode(tokens, *rest)

    monkeypatch.setattr(holder, "_encode", noting)
    first, second, third = (tuple(prompt) for prompt in OTHERS)
    runner.admit([runner.encode(first)])
    for tokens in (first, second, second, third, tuple(PROMPT), third, second, first):
        runner.encode(tokens)
    assert encoded == [first, second, third, tuple(PROMPT), *((first, second)[index] for index in again)]
    runner.rearrange([])
