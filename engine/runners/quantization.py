"""Weights in fewer bits: whole numbers with scales and zero points."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

WeightKind = Literal["float32", "bfloat16", "int8", "int4"]

INT4_GROUP = 128  # weights of an output channel that share a scale and a zero point


def as_float32(tensor: Tensor) -> Tensor:
    """Return a contiguous float32 tensor."""
    return tensor.detach().float().contiguous()


def as_exact_halves(weight: Tensor) -> Tensor:
    """Return a float32 weight in half precision if that is exact, as for the published weights; else unchanged."""
    halves = weight.half()
    return halves if torch.equal(halves.float(), weight) else weight


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize a float32 weight [out, in] to int8, -127 to 127: values [out, in], scales [out, 1]."""
    scales = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
    return (weight / scales).round().to(torch.int8), scales


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize a float32 weight [out, in] to 0 to 15: uint8 [out, groups, group], zero points and scales [out, groups, 1].

    Rows are padded with zeros to whole groups.
    """
    padded = nn.functional.pad(weight, (0, -weight.shape[1] % INT4_GROUP)).view(len(weight), -1, INT4_GROUP)
    low, high = padded.amin(-1, keepdim=True).clamp(max=0), padded.amax(-1, keepdim=True).clamp(min=0)
    scales = ((high - low) / 15).clamp(min=1e-12)
    zeros = (-low / scales).round()
    whole = ((padded / scales).round() + zeros).clamp(0, 15).to(torch.uint8)
    return whole, zeros.to(torch.uint8), scales
