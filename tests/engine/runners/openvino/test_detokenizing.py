"""OpenVINO's graph of a detokenizer, compared with the detokenizer."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from engine.runners.openvino.calibration import convolution_ranges
from engine.runners.openvino.detokenizing import detokenizing_graph
from engine.weights.checkpoint import load_checkpoint
from engine.weights.config import DetokenizerConfig
from engine.weights.detokenizer import TinyDetokenizer

GRID = torch.from_numpy(np.random.default_rng(0).integers(0, 512, (1, 5, 7)))


@pytest.fixture(scope="module", params=["vqgan", "tiny", "many blocks"])
def detokenizer(request: pytest.FixtureRequest, vqgan: nn.Module) -> nn.Module:
    if request.param == "vqgan":
        return vqgan
    if request.param == "tiny":
        return load_checkpoint("tiny", progress=False).detokenizer
    torch.manual_seed(0)
    blocks = TinyDetokenizer(512, DetokenizerConfig(32, (6, 5), middle_blocks=3, level_blocks=(2, 1))).eval()
    with torch.no_grad():
        blocks.decoder.conv_out.weight.mul_(3)  # full contrast
    return blocks


def pixels_of(detokenizer: nn.Module) -> NDArray[np.uint8]:
    """Detokenize with torch: uint8 [1, 16 H, 16 W, 3]."""
    with torch.inference_mode():
        z = detokenizer.embedding(GRID).permute(0, 3, 1, 2)  # type: ignore[operator]
        whole = detokenizer.decoder(detokenizer.post_quant_conv(z))  # type: ignore[operator]
    return (whole.permute(0, 2, 3, 1).clip(0, 1) * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("quantizes", [False, True], ids=["float32", "int8"])
def test_the_graph_draws_the_detokenizers_pictures(detokenizer: nn.Module, quantizes: bool) -> None:
    graph = detokenizing_graph(detokenizer, quantizes=quantizes)
    graph.reshape(list(GRID.shape))
    ours = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(GRID.numpy())[0]
    theirs = pixels_of(detokenizer)
    difference = np.abs(ours.astype(float) - theirs)
    assert ours.shape == theirs.shape and theirs.std() > 30
    if quantizes:
        assert 0 < difference.mean() < 8
    else:
        assert difference.max() <= 1


def test_a_graph_outlives_the_modules_that_it_was_built_from() -> None:
    """It reads their weights in place."""
    drawn = []
    for keeps in (True, False):
        detokenizer: nn.Module | None = load_checkpoint("tiny", progress=False).detokenizer
        assert detokenizer is not None
        sizes = [weight.shape for weight in detokenizer.parameters()]
        graph = detokenizing_graph(detokenizer, quantizes=False)
        if not keeps:
            detokenizer = None
        others = [torch.full(size, 7.0) for size in sizes]  # where the freed weights were
        drawn.append(ov.Core().compile_model(graph, "CPU")(GRID.numpy())[0])
        del others
    assert (drawn[0] == drawn[1]).all()


def test_ranges_are_those_of_large_inner_convolutions(detokenizer: nn.Module) -> None:
    with torch.inference_mode():
        ranges = convolution_ranges(detokenizer)
    large = {name for name, part in detokenizer.named_modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)}
    assert len(ranges) == len(large) - 2, "the first and the last are not among them"
    assert all(low < 0 < high for low, high in ranges.values()), "zero, which pads pictures, stays zero"
