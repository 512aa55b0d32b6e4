"""The detokenizer in C, compared with torch's and with itself."""

from __future__ import annotations

from copy import deepcopy
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from consts import INSTRUCTION_SET_VARIABLE
from engine.runners import default_cache, load_runner
from engine.runners.native.decoder import NativeDecoder
from engine.runners.native.detokenizer import NativeDetokenizer
from engine.runners.native.instructions import usable_sets
from engine.runners.native.library import load_library
from engine.runners.native.packed import PackedDetokenizer
from engine.runners.native.packing import pack_decoder
from engine.runners.native.stages import pack_detokenizer
from engine.weights.checkpoint import Checkpoint, ModelFiles, load_checkpoint
from engine.weights.config import DetokenizerConfig
from engine.weights.detokenizer import TinyDetokenizer
from tests.cpu import needs_native
from tests.engine.runners.native.test_decoder import limited_memory

pytestmark = needs_native

GRID = np.random.default_rng(0).integers(0, 512, (1, 16, 16))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint("tiny", progress=False)


@pytest.fixture(scope="module", params=["vqgan", "tiny", "many blocks"])
def detokenizer(request: pytest.FixtureRequest, checkpoint: Checkpoint, vqgan: nn.Module) -> nn.Module:
    if request.param == "tiny":
        return checkpoint.detokenizer
    if request.param == "vqgan":
        gentle = deepcopy(vqgan)
        with torch.no_grad():  # few pixels at the ends of the range, which would hide errors or enlarge them
            gentle.decoder.conv_out.weight.mul_(0.04)  # type: ignore[union-attr, operator]
            gentle.decoder.conv_out.bias.fill_(0.5)  # type: ignore[union-attr, operator]
        return gentle
    torch.manual_seed(0)
    return TinyDetokenizer(512, DetokenizerConfig(20, (6, 5), middle_blocks=3, level_blocks=(2, 1))).eval()


def native(checkpoint: Checkpoint, packed: PackedDetokenizer, threads: int = 2) -> NativeDetokenizer:
    library, config = load_library(default_cache()), checkpoint.config
    return NativeDetokenizer(
        library, NativeDecoder(library, config, pack_decoder(checkpoint.decoder, config, "int8"), threads), packed
    )


def random_grids(packed: PackedDetokenizer, *shape: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, min(512, len(packed.table)), shape)


def pixels_of(detokenizer: nn.Module, grids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Detokenize with torch: uint8 [N, 16 H, 16 W, 3]."""
    with torch.inference_mode():
        z = detokenizer.embedding(torch.from_numpy(grids)).permute(0, 3, 1, 2)  # type: ignore[operator]
        whole = detokenizer.decoder(detokenizer.post_quant_conv(z))  # type: ignore[operator]
    return (whole.permute(0, 2, 3, 1).clip(0, 1) * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("quantizes", [False, True], ids=["float32", "int8"])
def test_it_draws_torchs_pictures(detokenizer: nn.Module, checkpoint: Checkpoint, quantizes: bool) -> None:
    packed = pack_detokenizer(detokenizer, quantizes=quantizes)
    grids = random_grids(packed, 1, 5, 7)
    theirs = pixels_of(detokenizer, grids).astype(float)
    error = native(checkpoint, packed).detokenize(grids) - theirs
    assert theirs.std() > 10
    if quantizes:
        assert 0 < np.square(error).mean() < 255**2 / 10**4, "a PSNR of at least 40 dB"
    else:
        assert np.abs(error).max() <= 1


def test_the_same_bits_from_every_instruction_set_on_any_threads_in_any_batch(
    detokenizer: nn.Module, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_detokenizer(detokenizer, quantizes=True)
    grids = random_grids(packed, 2, 3, 9)  # tiles at the edges are cut off; more pixels in a row than a block of winograd.h has
    expected = np.stack([native(checkpoint, packed, threads=1).detokenize(grid[None])[0] for grid in grids])
    assert not np.array_equal(*expected)
    for each in usable_sets():
        monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, each.name)
        assert np.array_equal(native(checkpoint, packed, threads=3).detokenize(grids), expected), each.name
        monkeypatch.delenv(INSTRUCTION_SET_VARIABLE)


def test_pictures_of_other_sizes_and_without_memory_change_nothing(checkpoint: Checkpoint) -> None:
    packed = pack_detokenizer(checkpoint.detokenizer, quantizes=True)
    ours = native(checkpoint, packed)
    grids = random_grids(packed, 1, 4, 4)
    expected = ours.detokenize(grids).copy()
    large = random_grids(packed, 1, 200, 300)
    with limited_memory(50 * 2**20), pytest.raises(MemoryError, match="a picture of 200 x 300 tokens"):
        ours.detokenize(large)
    assert np.array_equal(ours.detokenize(grids), expected)
    tiles = ours.detokenize(np.tile(grids, (1, 1, 5)))
    assert tiles.shape == (1, 64, 320, 3) and tiles.std() > 10
    assert np.array_equal(ours.detokenize(grids), expected)


def test_unknown_tokens_are_refused(checkpoint: Checkpoint) -> None:
    ours = native(checkpoint, pack_detokenizer(checkpoint.detokenizer, quantizes=True))
    for token in (-1, checkpoint.config.image_vocab_count):
        with pytest.raises(IndexError, match="not among the detokenizer's"):
            ours.detokenize(np.full((1, 1, 1), token))


@pytest.mark.skipif(find_spec("openvino") is None, reason="without OpenVINO the C code always draws pixels in 8 bits")
def test_without_avx512_it_draws_openvinos_pixels_and_is_kept_on_disk(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "avx2")
    expected = native(checkpoint, pack_detokenizer(checkpoint.detokenizer, quantizes=True)).detokenize(GRID)
    options: Any = {"device": "cpu", "runner": "native", "threads": 2}
    _, first = load_runner("tiny", precision="int8", **options)
    assert np.array_equal(first.detokenize(GRID), expected)
    monkeypatch.setattr(ModelFiles, "load", lambda *_, **__: pytest.fail("the weights were read again"))
    _, second = load_runner("tiny", precision="int8", **options)
    assert np.array_equal(second.detokenize(GRID), expected)
    monkeypatch.undo()
    _, exact = load_runner("tiny", precision="float32", **options)
    assert 30 < -10 * np.log10(np.square((exact.detokenize(GRID) - expected.astype(float)) / 255).mean()) < 70, "in decibels"
