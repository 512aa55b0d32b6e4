"""The decoder and the detokenizer for ARM, emulated: the same bits as on this machine."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from engine.request import IMAGE_TOKEN_COUNT
from engine.runners import default_cache
from engine.runners.native.decoder import CACHE_TYPES, NativeDecoder
from engine.runners.native.detokenizer import NativeDetokenizer, stage_structure
from engine.runners.native.instructions import INSTRUCTION_SETS
from engine.runners.native.library import compile_flags, load_library
from engine.runners.native.packed import PackedDetokenizer
from engine.runners.native.packing import pack_decoder
from engine.runners.native.stages import pack_detokenizer
from engine.runners.quantization import WeightKind
from engine.weights.checkpoint import load_checkpoint
from engine.weights.config import ModelConfig
from tests.cpu import needs_native

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
missing = [program for program in (COMPILER, EMULATOR) if not shutil.which(program)]
needs_emulator = pytest.mark.skipif(
    bool(missing), reason=f"{' and '.join(missing)} missing; Debian: apt-get install gcc-aarch64-linux-gnu qemu-user"
)
PROGRAM = Path(__file__).with_name("decode_file.c")
NATIVE = Path(load_library.__code__.co_filename).parent
ROWS, STEPS = 7, 18  # strips of 3 and 4 rows; more than a block of positions


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("neon") / "decode"
    flags = [flag for flag in compile_flags(INSTRUCTION_SETS[-1]) if flag not in ("-shared", "-fPIC")]
    command = [COMPILER, *flags, "-static", f"-I{NATIVE}", "-o", str(path), str(PROGRAM), "-lm"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return path


def write_file(
    path: Path, config: ModelConfig, arrays: Sequence[NDArray[Any]], lengths: NDArray[Any], rest: Sequence[NDArray[Any]]
) -> None:
    """Write the input of decode_file.c."""
    kind = int(arrays[6][0])
    sizes = (config.embed_count, config.attention_head_count, config.glu_embed_count, config.decoder_layer_count)
    cache_type = CACHE_TYPES[kind]
    header = struct.pack("9if", *sizes, IMAGE_TOKEN_COUNT, cache_type, len(lengths), STEPS, 2, 1e-5)
    with path.open("wb") as file:
        tables = [table.astype(np.float32) for table in arrays[:2]]
        for block in (header, *(array.tobytes() for array in (*tables, *arrays[2:], lengths, *rest))):
            file.write(struct.pack("q", len(block)) + block)


@needs_native
@needs_emulator
@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_neon_gives_the_same_bits(program: Path, precision: WeightKind, tmp_path: Path) -> None:
    checkpoint = load_checkpoint("tiny", progress=False)
    config = replace(checkpoint.config, decoder_layer_count=2)  # all have the same code, and the emulator is slow
    checkpoint.decoder.layers = checkpoint.decoder.layers[: config.decoder_layer_count]
    arrays = pack_decoder(checkpoint.decoder, config, precision)
    decoder = NativeDecoder(load_library(default_cache()), config, arrays, threads=1)
    random = np.random.default_rng(1)
    tokens = random.integers(0, config.logit_count, (STEPS, ROWS)).astype(np.int32)
    lengths = np.resize(np.array([2, 11, 30], np.int32), ROWS)
    texts = [
        random.standard_normal((2 * config.decoder_layer_count, length, config.embed_count)).astype(np.float32)
        for length in lengths
    ]

    packed, caches = [decoder.pack_text(text) for text in texts], np.zeros((ROWS, decoder.image_cache_size), np.uint8)
    addresses = [np.array([each.ctypes.data for each in memory], np.uint64) for memory in (caches, packed)]
    expected = [
        decoder.step(tokens[i], np.full(ROWS, i, np.int32), addresses[0], addresses[1], lengths).copy() for i in range(STEPS)
    ]

    write_file(tmp_path / "in", config, arrays, lengths, [*texts, tokens])
    subprocess.run([EMULATOR, "-cpu", "cortex-a76", program, tmp_path / "in", tmp_path / "out"], check=True, timeout=300)
    found = np.fromfile(tmp_path / "out", np.float32).reshape(STEPS, ROWS, -1)
    assert found.std() > 0.5
    assert np.array_equal(found, np.stack(expected))


def write_detokenizer(path: Path, packed: PackedDetokenizer, grid: NDArray[np.int64]) -> None:
    """Write the input of decode_file.c for a detokenizer."""
    header = struct.pack("4if", len(packed.stages), *grid.shape, 2, packed.epsilon)
    stages = (stage_structure(each) for each in packed.stages)
    blocks = [header, grid.tobytes(), packed.table.tobytes(), b"".join(bytes(each) for each in stages)]
    for stage in packed.stages:
        if stage.convolution is not None:
            norm = stage.norm or (np.empty(0), np.empty(0))
            parts = stage.convolution.weights, stage.convolution.scales, stage.convolution.bias, stage.convolution.sums
            blocks += [each.tobytes() for each in (*norm, *parts)]
    with path.open("wb") as file:
        for block in blocks:
            file.write(struct.pack("q", len(block)) + block)


@needs_native
@needs_emulator
@pytest.mark.parametrize("name, shape", [("tiny", (3, 5)), ("vqgan", (1, 2))])
def test_neon_gives_the_same_pixels(program: Path, name: str, shape: tuple[int, int], vqgan: nn.Module, tmp_path: Path) -> None:
    checkpoint = load_checkpoint("tiny", progress=False)
    packed = pack_detokenizer(checkpoint.detokenizer if name == "tiny" else vqgan, quantizes=True)
    library = load_library(default_cache())
    decoder = NativeDecoder(library, checkpoint.config, pack_decoder(checkpoint.decoder, checkpoint.config, "int8"), threads=1)
    grid = np.random.default_rng(0).integers(0, len(packed.table), shape)
    expected = NativeDetokenizer(library, decoder, packed).detokenize(grid[None])
    write_detokenizer(tmp_path / "in", packed, grid)
    subprocess.run(
        [EMULATOR, "-cpu", "cortex-a76", program, tmp_path / "in", tmp_path / "out", "detokenize"], check=True, timeout=300
    )
    found = np.fromfile(tmp_path / "out", np.uint8).reshape(expected.shape)
    assert found.std() > 30
    assert np.array_equal(found, expected)
