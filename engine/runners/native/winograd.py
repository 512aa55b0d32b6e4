"""A detokenizer's fine levels as convolution.h reads them: weights transformed for Winograd's F(4 x 4, 3 x 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.runners.rounding import floats
from engine.upstream import VQGanDetokenizer

FINE_LEVELS = 3  # of five: nine tenths of all multiplications; the others' pictures are too small for this
TOGETHER = 32  # outputs that are multiplied at once

# Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015: three weights in a row to six.
_TRANSFORM = torch.tensor(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64
) / torch.tensor([[24.0]], dtype=torch.float64)

Arrays = list[NDArray[Any]]


def pack_fine_levels(detokenizer: nn.Module) -> Arrays:
    """Pack the last levels of min-dalle's own detokenizer, in the order that a picture takes; of another, nothing."""
    if not isinstance(detokenizer, VQGanDetokenizer):
        return []
    decoder, arrays = detokenizer.decoder, []
    for level in reversed(range(FINE_LEVELS)):
        arrays += convolution(decoder.up[level + 1].upsample.conv)
        for block in decoder.up[level].block:
            if not block.is_middle:
                arrays += convolution(block.nin_shortcut)
            arrays += convolution(block.conv1, block.norm1) + convolution(block.conv2, block.norm2)
    return arrays + convolution(decoder.conv_out, decoder.norm_out)


def convolution(own: nn.Conv2d, norm: nn.GroupNorm | None = None) -> Arrays:
    """Pack a convolution, five arrays: inputs and outputs, weights, bias, and its norm's scale and bias or nothing."""
    weight = floats(own.weight).double()
    outputs, inputs, side, _ = weight.shape
    weight = nn.functional.pad(weight, (1, 1, 1, 1) if side == 1 else (0, 0, 0, 0))
    turned = torch.einsum("ar,oirs,bs->oabi", _TRANSFORM, weight, _TRANSFORM).flatten(1, 2).float()
    turned = nn.functional.pad(turned, (0, 0, 0, 0, 0, -outputs % TOGETHER))
    packed = turned.view(-1, TOGETHER, *turned.shape[1:]).permute(0, 2, 3, 1).contiguous().numpy()
    bias = nn.functional.pad(floats(own.get_parameter("bias")), (0, -outputs % TOGETHER)).numpy()
    none = np.empty(0, np.float32)
    norms = [none, none] if norm is None else [floats(each).numpy() for each in (norm.weight, norm.bias)]
    return [np.array([inputs, len(bias)], dtype=np.int32), packed, bias, *norms]
