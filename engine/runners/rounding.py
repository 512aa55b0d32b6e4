"""How weights are kept in fewer bits: whole numbers, and what they are multiplied by."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

WeightKind = Literal["float32", "bfloat16", "int8", "int4"]

# So many int4 weights of an output channel share a scale and a zero point.
INT4_GROUP = 128


def floats(tensor: Tensor) -> Tensor:
    """Return a tensor as float32, side by side in memory."""
    return tensor.detach().float().contiguous()


def shortest(weight: Tensor) -> Tensor:
    """Return a float32 weight in half precision where that loses nothing, as with the published ones; else as it is."""
    halves = weight.half()
    return halves if torch.equal(halves.float(), weight) else weight


def rounded_to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a float32 weight [out, in] to -127 to 127: int8 [out, in], and scales [out, 1]."""
    scales = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
    return (weight / scales).round().to(torch.int8), scales


def rounded_to_int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round a float32 weight [out, in] to 0 to 15: uint8 [out, groups, group], zero points and scales [out, groups, 1].

    Rows are filled up with zeros to whole groups.
    """
    filled = nn.functional.pad(weight, (0, -weight.shape[1] % INT4_GROUP)).view(len(weight), -1, INT4_GROUP)
    low, high = filled.amin(-1, keepdim=True).clamp(max=0), filled.amax(-1, keepdim=True).clamp(min=0)
    scales = ((high - low) / 15).clamp(min=1e-12)
    zeros = (-low / scales).round()
    whole = ((filled / scales).round() + zeros).clamp(0, 15).to(torch.uint8)
    return whole, zeros.to(torch.uint8), scales
