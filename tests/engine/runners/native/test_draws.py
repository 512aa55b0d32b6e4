"""The native runner draws the tokens that numpy draws from the same logits; test_sampler.py compares numpy's with min-dalle's."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.request import SamplingSettings
from engine.runners import default_cache, logits_runner_on
from engine.runners.native.draws import DRAWN_TOKEN, DrawTable, as_drawn
from engine.runners.native.instructions import InstructionSet, usable_sets
from engine.runners.native.library import compile_flags, find_compiler
from engine.runners.openvino.precision import CPU_PRECISIONS
from engine.runners.runner import Draw, Drawn
from engine.runners.sampling import draw_with_numpy
from engine.sampler import uniforms
from engine.weights.checkpoint import load_checkpoint
from tests.cpu import needs_native
from tests.engine.runners.native.test_neon import NATIVE

pytestmark = needs_native

Sample = Callable[[NDArray[Any], list[Draw], int], Drawn]
PROGRAM = Path(__file__).with_name("sample_file.c")


@pytest.fixture(scope="module", params=usable_sets(), ids=lambda each: each.name)
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    instructions: InstructionSet = request.param
    path = tmp_path_factory.mktemp("sample") / f"{instructions.name}.so"
    command = [*find_compiler(), *compile_flags(instructions), f"-I{NATIVE}", "-o", str(path), str(PROGRAM), "-lm"]
    subprocess.run(command, check=True, timeout=120)
    library = ctypes.CDLL(str(path))

    def sample(logits: NDArray[Any], draws: list[Draw], position: int) -> Drawn:
        count, _, vocabulary = logits.shape
        table, drawn = DrawTable(draws), np.empty((1, count), DRAWN_TOKEN)
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in (logits, table.rows, drawn)]
        stride = logits.strides[1] // logits.itemsize
        library.sample_all(addresses[0], stride, count, vocabulary, addresses[1], position, addresses[2])
        return as_drawn(drawn)

    return sample


def draws_of(count: int, top_k: int) -> list[Draw]:
    factors, temperatures = (16.0, 1.0, 2.5, 0.0, -1.0), (1.0, 0.5, 1.7)
    ends = [0.0] * 256, [1 - 2**-53] * 256
    return [
        Draw(
            SamplingSettings(temperatures[i % 3], top_k, factors[i % 5]),
            ends[i] if i < len(ends) else uniforms(i),
            needs_likelihoods=i % 2 == 0,
        )
        for i in range(count)
    ]


def assert_equal(drawn: Drawn, expected: Drawn) -> None:
    assert list(drawn.not_finite) == list(expected.not_finite)
    good = np.setdiff1d(np.arange(len(expected.tokens)), expected.not_finite)
    assert drawn.tokens[good].tolist() == expected.tokens[good].tolist()
    assert drawn.tokens.dtype == np.int64 and not drawn.tokens[list(drawn.not_finite)].any()
    np.testing.assert_allclose(drawn.likelihoods, expected.likelihoods, rtol=0, atol=1e-5)


@pytest.mark.parametrize("vocabulary", [5, 1021, 7875, 16384])
@pytest.mark.parametrize("decimals", [1, 6], ids=["many ties", "few ties"])
def test_tokens_are_those_of_numpy(sample: Sample, vocabulary: int, decimals: int) -> None:
    random = np.random.default_rng(vocabulary)
    for position, top_k in enumerate((1, 3, 64, 256, 1023, 1024, 1025, 5000, 2**40)):
        draws = draws_of(20, top_k)
        logits = (3 * random.standard_normal((20, 2, vocabulary))).round(decimals).astype(np.float32)
        assert_equal(sample(logits, draws, position), draw_with_numpy(logits, [position] * 20, draws))


def test_logits_may_lie_in_longer_rows(sample: Sample) -> None:
    longer = np.random.default_rng(0).standard_normal((6, 128)).astype(np.float32)
    longer[:, 100:] = 1e9
    logits = longer[:, :100].reshape(3, 2, 100)
    assert np.shares_memory(logits, longer), "it would test nothing"
    assert_equal(sample(logits, draws_of(3, 10), 7), draw_with_numpy(logits, [7] * 3, draws_of(3, 10)))


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
def test_images_whose_logits_are_not_finite_are_told(sample: Sample, worst: float) -> None:
    logits = np.random.default_rng(1).standard_normal((8, 2, 1000)).astype(np.float32)
    logits[2, 0, 999] = logits[5, 1, 0] = worst
    logits[6] = worst
    with np.errstate(invalid="ignore"):
        expected = draw_with_numpy(logits, [0] * 8, draws_of(8, 64))
    assert 6 in expected.not_finite and 3 not in expected.not_finite
    assert_equal(sample(logits, draws_of(8, 64), 0), expected)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_several_steps_are_those_that_follow_one_by_one(precision: str) -> None:
    """With images at different positions, and one call after the other."""
    checkpoint = load_checkpoint("tiny", progress=False)
    runner = logits_runner_on(checkpoint, CPU_PRECISIONS[precision], 2, default_cache(), runner="native")
    draws, start = draws_of(4, 64)[1:], checkpoint.config.decoder_start_token_id
    prompts = [runner.encode(tokens) for tokens in ([0, 5, 6, 2], [0, 7, 2], [0, 5, 2])]

    def fill() -> tuple[list[int], list[int]]:
        """Admit the images, the first of which is three tokens ahead."""
        runner.reset()
        runner.admit(prompts[:1])
        token = start
        for position in range(3):
            token = draw_with_numpy(runner.step([token], [position]), [position], draws[:1]).tokens.item()
        runner.admit(prompts[1:])
        return [token, start, start], [3, 0, 0]

    tokens, positions = fill()
    expected = []
    for _ in range(30):
        expected.append(draw_with_numpy(runner.step(tokens, positions), positions, draws))
        tokens, positions = expected[-1].tokens[:, 0].tolist(), [position + 1 for position in positions]
    tokens, positions = fill()
    done, counts = 0, set()
    while done < 30:
        drawn = runner.draw(tokens, positions, draws, min(8, 30 - done))
        count = drawn.tokens.shape[1]
        wanted = expected[done : done + count]
        tokens_of, likelihoods_of = (np.hstack([getattr(each, name) for each in wanted]) for name in ("tokens", "likelihoods"))
        assert_equal(drawn, Drawn(tokens_of, likelihoods_of))
        tokens, positions = drawn.tokens[:, -1].tolist(), [position + count for position in positions]
        done += count
        counts.add(count)
    assert max(counts) > 1, "several at once"


def test_no_images_are_drawn_from_none() -> None:
    checkpoint = load_checkpoint("tiny", progress=False)
    runner = logits_runner_on(checkpoint, CPU_PRECISIONS["int8"], 1, default_cache(), runner="native")
    runner.admit([runner.encode([0, 5, 2])])
    runner.rearrange([])
    assert runner.draw([], [], [], 3).tokens.shape[0] == 0
