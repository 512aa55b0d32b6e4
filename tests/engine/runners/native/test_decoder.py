"""The native decoder: the sizes that it supports, and its results."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from consts import INSTRUCTION_SET_VARIABLE
from engine.request import SamplingSettings
from engine.runners import LogitsRunner, default_cache, logits_runner_on
from engine.runners.native.decoder import NativeDecoder
from engine.runners.native.instructions import usable_sets
from engine.runners.native.layout import unsupported_reason
from engine.runners.native.library import load_library
from engine.runners.native.packing import pack_decoder
from engine.runners.native.runner import NativeRunner
from engine.runners.openvino.precision import CPU_PRECISIONS
from engine.runners.quantization import WeightKind
from engine.runners.runner import Draw
from engine.runners.torch.runner import TorchRunner
from engine.weights.checkpoint import Checkpoint, load_checkpoint
from engine.weights.config import ModelConfig
from engine.weights.models import MODELS
from tests.cpu import needs_native
from tests.parity.reference import random_checkpoint

PROMPT = [0, 5, 6, 2]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint("tiny", progress=False)


@pytest.fixture(scope="module")
def native(checkpoint: Checkpoint) -> NativeRunner:
    runner = logits_runner_on(checkpoint, CPU_PRECISIONS["float32"], 2, default_cache(), runner="native")
    assert isinstance(runner, NativeRunner)
    return runner


def logits_of(decoder: NativeDecoder, config: ModelConfig, images: int, steps: int = 40) -> NDArray[Any]:
    """Return the logits of some steps with random prompts and tokens, [steps, 2 images, V]."""
    random, layers = np.random.default_rng(images), config.decoder_layer_count
    lengths = np.resize(np.array([2, 11, 30], np.int32), 2 * images)
    texts = [
        decoder.pack_text(random.standard_normal((2 * layers, length, config.embed_count)).astype(np.float32))
        for length in lengths
    ]
    caches = np.zeros((2 * images, decoder.image_cache_size), np.uint8)
    addresses = [np.array([each.ctypes.data for each in arrays], np.uint64) for arrays in (caches, texts)]
    tokens = random.integers(0, config.logit_count, (steps, 2 * images)).astype(np.int32)
    positions = np.repeat(np.arange(steps, dtype=np.int32)[:, None], 2 * images, 1)
    return np.stack([decoder.step(tokens[i], positions[i], addresses[0], addresses[1], lengths).copy() for i in range(steps)])


@needs_native
def test_every_instruction_set_gives_the_same_bits(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """So what other tests and the documentation say of one set holds for all."""
    sets = usable_sets()
    libraries = []
    for each in sets:
        monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, each.name)
        libraries.append(load_library(default_cache()))
    for precision in get_args(WeightKind):
        arrays = pack_decoder(checkpoint.decoder, checkpoint.config, precision)
        decoders = [NativeDecoder(each, checkpoint.config, arrays, threads=1) for each in libraries]
        for images in (1, 2, 7, 9, 10):
            expected, *others = (logits_of(each, checkpoint.config, images) for each in decoders)
            assert expected.std() > 0.5
            assert all(np.array_equal(each, expected) for each in others), (precision, images)


WITHOUT_OPENVINO = """
import platform, sys
sys.modules["openvino"] = None  # an import raises
platform.machine = lambda: "aarch64"
import numpy as np
from engine.runners import load_runner
prompt, tokens = [0, 5, 6, 2], [512, 3, 11]
logits, pixels = [], []
for runner, precision in (("torch", "float32"), ("auto", "float32"), ("auto", "int8")):
    files, each = load_runner("tiny", device="cpu", runner=runner, precision=precision, threads=1)
    each = each.logits_runner
    each.admit([each.encode(prompt, [0, 7, 2])])
    tokens[0] = files.config.decoder_start_token_id
    logits.append(np.stack([each.step([token], [position]).copy() for position, token in enumerate(tokens)]))
    pixels.append(each.detokenize(np.arange(256).reshape(1, 16, 16)))
exact, *others = (each.astype(float) for each in pixels)
psnr = [10 * np.log10(255**2 / max(np.square(each - exact).mean(), 1e-9)) for each in others]
print(type(each).__name__, np.abs(logits[1] - logits[0]).max() < 1e-3 * logits[0].std(), psnr[0] > 100, 40 < psnr[1] < 60)
"""


@needs_native
def test_it_works_without_openvino_as_on_arm() -> None:
    """torch then encodes, and detokenizes in float32."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_OPENVINO], capture_output=True, text=True, timeout=120)
    assert done.stdout == "NativeRunner True True True\n", done.stderr


def test_unsupported_sizes_are_refused(checkpoint: Checkpoint) -> None:
    sizes = checkpoint.config
    assert unsupported_reason(sizes) is None
    assert all(spec.sizes is None or unsupported_reason(spec.sizes) is None for spec in MODELS.values())
    assert "head" in str(unsupported_reason(replace(sizes, attention_head_count=8)))
    wide = replace(sizes, embed_count=272, attention_head_count=1)
    assert "272, is not a multiple of 16 up to 256" in str(unsupported_reason(wide))
    assert "4098, is above 4096" in str(unsupported_reason(replace(sizes, glu_embed_count=4098)))
    assert "333, is odd" in str(unsupported_reason(replace(sizes, glu_embed_count=333)))
    assert "257 tokens" in str(unsupported_reason(replace(sizes, text_token_count=257)))


@contextmanager
def limited_memory(spare: int) -> Iterator[None]:
    """Limit this process's memory to `spare` bytes more than it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@needs_native
def test_a_step_without_memory_raises_and_later_steps_are_right(native: NativeRunner, checkpoint: Checkpoint) -> None:
    start, rows = checkpoint.config.decoder_start_token_id, 20_000
    native.reset()
    native.admit([native.encode(PROMPT)])
    before = native.step([start], [0]).copy()
    zeros, nowhere = np.zeros(rows, np.int32), np.zeros(rows, np.uint64)  # it fails before it reads them
    with limited_memory(500 * 2**20), pytest.raises(MemoryError, match="a step of 20000 rows"):
        native.decoder.step(zeros, zeros, nowhere, nowhere, zeros)
    assert np.array_equal(native.step([start], [0]), before)


@needs_native
def test_the_parts_of_a_steps_time_are_counted(native: NativeRunner, checkpoint: Checkpoint) -> None:
    native.reset()
    native.admit([native.encode(PROMPT)])
    earlier, started = native.decoder.seconds_spent(), time.perf_counter()
    for position in range(50):
        native.draw([checkpoint.config.decoder_start_token_id], [position], [Draw(SamplingSettings(), [0.5] * 50)], 1)
    elapsed, later = time.perf_counter() - started, native.decoder.seconds_spent()
    parts = [later[part] - earlier[part] for part in later]
    assert min(parts) > 0 and sum(parts) < elapsed


@needs_native
@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_a_row_is_the_same_to_the_bit_beside_any_number_of_others(checkpoint: Checkpoint, precision: str) -> None:
    """Each number of rows up to 18 has its own code; more are computed in several tiles."""
    runner = logits_runner_on(checkpoint, CPU_PRECISIONS[precision], 1, default_cache(), runner="native")
    prompt, other = runner.encode(PROMPT), runner.encode([0, 7, 2])
    start = checkpoint.config.decoder_start_token_id
    runner.admit([prompt])
    alone = [runner.step([token], [position])[0].copy() for position, token in enumerate((start, 3, 11))]
    for count in range(2, 21):  # images: two rows each
        runner.reset()
        runner.admit([other] * (count - 1) + [prompt])
        for position, token in enumerate((start, 3, 11)):
            others = [start if position == 0 else token + image for image in range(1, count)]
            assert np.array_equal(runner.step([*others, token], [position] * count)[-1], alone[position]), count
    with pytest.raises(ValueError):
        runner.step([], [])


# Heads of 48 and 128 numbers, besides Tiny's 32 and Mini's 64. Then all limits at once, and logits that end within a piece.
@needs_native
@pytest.mark.parametrize(
    "sizes",
    [
        {"embed_count": 96, "attention_head_count": 2, "glu_embed_count": 96},
        {"embed_count": 128, "attention_head_count": 1, "glu_embed_count": 96},
        {
            "embed_count": 256,
            "attention_head_count": 1,
            "glu_embed_count": 4096,
            "text_token_count": 256,
            "image_vocab_count": 1056,
            "decoder_start_token_id": 1056,
        },
    ],
    ids=["heads of 48", "heads of 128", "limits"],
)
def test_other_sizes_follow_torch(checkpoint: Checkpoint, sizes: dict[str, int]) -> None:
    config: Any = replace(checkpoint.config, **sizes)  # type: ignore[arg-type]
    other = replace(random_checkpoint(config, checkpoint.tokenizer), detokenizer=checkpoint.detokenizer)
    tokens = [config.decoder_start_token_id, *range(100, 139)]
    prompt = [0, *(3 + index % 400 for index in range(config.text_token_count - 2)), 2]

    def logits(runner: LogitsRunner) -> NDArray[Any]:
        runner.admit([runner.encode(prompt)])
        return np.stack([runner.step([token], [position])[0].copy() for position, token in enumerate(tokens)])

    exact = logits(TorchRunner(other, torch.device("cpu")))
    for precision, most in (("float32", 1e-5), ("bfloat16", 0.02), ("int4", 0.1)):
        error = logits(logits_runner_on(other, CPU_PRECISIONS[precision], 2, default_cache(), runner="native")) - exact
        assert error.std() < most * exact.std(), precision
