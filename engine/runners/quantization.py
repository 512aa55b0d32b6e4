"""Weights in fewer bits: whole numbers with scales and zero points.

The functions only call methods of the tensors that they get, so that this module, which also has constants, imports no torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

WeightKind = Literal["float32", "bfloat16", "int8", "int4"]

INT4_GROUP = 128  # weights of an output channel that share a scale and a zero point
INT7_MOST = 64
_FIRST_ROWS = 16
_ROUNDING = 1e-4  # how far a float32 product of a whole number and a scale may be from whole, over the scale


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


def exact_int7(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return a float32 weight [out, in] as int8, -64 to 64: values [out, in], scales [out, 1]; None if that is not exact.

    It is for a file of whole numbers with a scale a row, as Tiny's, if 1 or -1 is among the numbers of each row.
    """
    if len(weight) > _FIRST_ROWS and exact_int7(weight[:_FIRST_ROWS]) is None:
        return None  # soon, as for most weights
    least = weight.abs().masked_fill(weight == 0, math.inf).amin(1, keepdim=True)
    scales = least.masked_fill(least.isinf(), 1.0)  # of a row of zeros
    numbers = weight / scales
    whole = numbers.round()
    is_exact = bool((whole.abs().amax() <= INT7_MOST) & ((numbers - whole).abs().amax() < _ROUNDING))
    return (whole.char(), scales) if is_exact else None


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
