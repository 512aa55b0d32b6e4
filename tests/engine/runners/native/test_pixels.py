"""Whether the native convolutions draw what the detokenizer does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from engine.runners import default_cache
from engine.runners.native.decoder import Decoder
from engine.runners.native.layout import pack_decoder
from engine.runners.native.library import load_library
from engine.runners.native.pixels import FinePixels
from engine.runners.native.winograd import FINE_LEVELS, pack_fine_levels
from engine.runners.openvino.detokenizing import coarse_graph
from engine.runners.openvino.pixels import Pixels
from engine.weights.checkpoint import load_checkpoint
from tests.cpu import needs_native

pytestmark = needs_native


@pytest.fixture(scope="module")
def painter(vqgan: nn.Module) -> Callable[[int], FinePixels]:
    """Return what makes `FinePixels` of so many threads."""
    tiny, arrays = load_checkpoint("tiny", progress=False), pack_fine_levels(vqgan)
    packed = pack_decoder(tiny.decoder, tiny.config.logit_count, "float32")
    library = load_library(default_cache())
    graph = coarse_graph(vqgan, FINE_LEVELS)
    return lambda threads: FinePixels(Pixels(graph, 2), Decoder(library, tiny.config, packed, threads), arrays)


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 3, 5), (1, 10, 9)], ids=["a picture", "two small ones", "a seamless one"])
def test_pictures_are_the_detokenizers(
    shape: tuple[int, int, int], vqgan: nn.Module, painter: Callable[[int], FinePixels]
) -> None:
    grids = torch.from_numpy(np.random.default_rng(1).integers(0, 16384, shape))
    with torch.inference_mode():
        z = vqgan.embedding(grids).permute(0, 3, 1, 2)  # type: ignore[operator]
        whole = vqgan.decoder(vqgan.post_quant_conv(z))  # type: ignore[operator]
    theirs = (whole.permute(0, 2, 3, 1).clip(0, 1) * 255).round().numpy()
    ours = painter(2).draw(grids.numpy())
    assert theirs.std() > 30 and ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1


def test_a_picture_is_the_same_to_the_bit_by_any_number_of_threads(painter: Callable[[int], FinePixels]) -> None:
    grids = np.random.default_rng(2).integers(0, 16384, (2, 4, 12))
    alone, together = painter(1), painter(3)
    first = alone.draw(grids)
    assert (together.draw(grids) == first).all() and (together.draw(grids[1:]) == first[1:]).all()


def test_other_detokenizers_have_no_such_levels() -> None:
    assert pack_fine_levels(load_checkpoint("tiny", progress=False).detokenizer) == []


def test_another_size_and_a_reset_leave_pictures_as_they_were(painter: Callable[[int], FinePixels]) -> None:
    many = painter(2)
    many.draw(np.zeros((1, 16, 20), np.int64))
    usual = np.random.default_rng(3).integers(0, 16384, (1, 16, 16))
    before = many.draw(usual)
    many.reset()
    assert (many.draw(usual) == before).all()
