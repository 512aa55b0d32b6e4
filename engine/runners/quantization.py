"""Weights in fewer bits: whole numbers with scales and zero points.

The functions only call methods of the tensors that they get, so that this module, which also has constants, imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

WeightKind = Literal["float32", "bfloat16", "int8", "int4"]

INT4_GROUP = 128  # weights of an output channel that share a scale and a zero point


def as_float32(tensor: Tensor) -> Tensor:
    """Return a contiguous float32 tensor."""
    return tensor.detach().float().contiguous()


def as_exact_halves(weight: Tensor) -> Tensor:
    """Return a float32 weight in half precision if that is exact, as for the published weights; else unchanged."""
    halves = weight.half()
    return halves if halves.float().equal(weight) else weight


def as_bfloat16_bits(weight: Tensor) -> Tensor:
    """Round a weight to bfloat16, which numpy does not have: uint16 of the same shape."""
    import torch  # late, for the type

    return as_float32(weight).bfloat16().view(torch.uint16)


def quantize_int8(weight: Tensor, most: int = 127) -> tuple[Tensor, Tensor]:
    """Quantize a float32 weight [out, in] to int8, -`most` to `most`: values [out, in], scales [out, 1]."""
    scales = (weight.abs().amax(1, keepdim=True) / most).clamp(min=1e-12)
    return (weight / scales).round().char(), scales


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize a float32 weight [out, in] to 0 to 15: uint8 [out, groups, group], zero points and scales [out, groups, 1].

    Rows are padded with zeros to whole groups.
    """
    padded = weight.new_zeros(len(weight), -(-weight.shape[1] // INT4_GROUP) * INT4_GROUP)
    padded[:, : weight.shape[1]] = weight
    padded = padded.view(len(weight), -1, INT4_GROUP)
    low, high = padded.amin(-1, keepdim=True).clamp(max=0), padded.amax(-1, keepdim=True).clamp(min=0)
    scales = ((high - low) / 15).clamp(min=1e-12)
    zeros = (-low / scales).round()
    whole = ((padded / scales).round() + zeros).clamp(0, 15).byte()
    return whole, zeros.byte(), scales
