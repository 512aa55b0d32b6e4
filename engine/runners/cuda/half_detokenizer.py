"""min-dalle's VQGAN detokenizer in 16 bits: features in channels-last order, and group norms in Triton."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.runners.cuda.graphs import captured
from engine.runners.cuda.kernels.group_norm import group_norm_kernel, group_sums_kernel
from engine.weights.detokenizer import to_bytes

_GROUPS = 32
_BLOCK = 4096  # numbers that a program reads at once
_MOST_CHUNKS = 128  # of a picture's places, each summed by a program
_WARPS = 4


def group_norm(x: Tensor, norm: nn.GroupNorm, *, has_silu: bool) -> Tensor:
    """Norm features [N, C, H, W] in 32 groups, then apply SiLU if asked: the same shape, in channels-last order.

    C, H and W are powers of two, C at least 32.
    """
    count, channels, height, width = x.shape
    places = height * width
    block = min(places, max(8, _BLOCK // channels))
    chunks = min(_MOST_CHUNKS, places // block)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    sums = torch.empty((count, chunks, 2, _GROUPS), device=x.device, dtype=torch.float32)
    sizes = {"C": channels, "CHUNKS": chunks, "BLOCK": block}
    group_sums_kernel[(count, chunks)](x, sums, places, **sizes, num_warps=_WARPS)
    group_norm_kernel[(count, places // block)](
        x, sums, norm.weight, norm.bias, y, places, norm.eps, **sizes, HAS_SILU=has_silu, num_warps=_WARPS
    )
    return y


class HalfDetokenizer:
    """A float16 copy of min-dalle's detokenizer for square grids of one size.

    Pictures are computed one by one: a convolution's rounding depends on the batch, and a picture must not.
    """

    def __init__(self, detokenizer: nn.Module, side: int, device: torch.device) -> None:
        """`side` is the number of tokens on a grid's side, a power of two."""
        half: Any = deepcopy(detokenizer).to(device, torch.float16)
        self._parts: Any = half.to(memory_format=torch.channels_last)
        self._grid = torch.zeros((1, side, side), device=device, dtype=torch.int64)
        self._compute_picture = captured(self._compute, device)

    def pixels(self, grids: Tensor) -> tuple[Tensor, Tensor]:
        """Detokenize grids int64 [N, side, side] on the device.

        Returns uint8 [N, 16 side, 16 side, 3], and for each picture whether all numbers were finite, bool [N].
        """
        pixels, are_finite = [], []
        for grid in grids:
            self._grid.copy_(grid)
            self._compute_picture()
            pixels.append(self._pixels.clone())
            are_finite.append(self._is_finite.clone())
        return torch.cat(pixels), torch.stack(are_finite)

    def _compute(self) -> None:
        parts, decoder = self._parts, self._parts.decoder
        z = parts.embedding(self._grid).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        z = decoder.conv_in(parts.post_quant_conv(z))
        z = _resnet(decoder.mid.block_1, z)
        z = _resnet(decoder.mid.block_2, _attend(decoder.mid.attn_1, z))
        for level in reversed(decoder.up):
            for index, block in enumerate(level.block):
                z = _resnet(block, z)
                if level.has_attention:
                    z = _attend(level.attn[index], z)
            if level.has_upsample:
                z = level.upsample.conv(F.interpolate(z, scale_factor=2.0, mode="nearest"))
        z = decoder.conv_out(group_norm(z, decoder.norm_out, has_silu=True)).float()
        self._pixels, self._is_finite = to_bytes(z), z.isfinite().all()


def _resnet(block: Any, x: Tensor) -> Tensor:
    """Apply a `ResnetBlock` of min-dalle's."""
    h = block.conv1(group_norm(x, block.norm1, has_silu=True))
    h = block.conv2(group_norm(h, block.norm2, has_silu=True))
    return (x if block.is_middle else block.nin_shortcut(x)) + h


def _attend(block: Any, x: Tensor) -> Tensor:
    """Apply an `AttentionBlock` of min-dalle's: from each place to all, with the softmax in float32."""
    normed = group_norm(x, block.norm, has_silu=False)
    queries, keys, values = (part(normed).flatten(2) for part in (block.q, block.k, block.v))  # [N, C, H W]
    # Scaled before the product, which float16 could not hold otherwise.
    weights = torch.softmax((queries.transpose(1, 2) * x.shape[1] ** -0.5 @ keys).float(), 2).to(x.dtype)
    mixed = (values @ weights.transpose(1, 2)).view_as(x).contiguous(memory_format=torch.channels_last)
    return x + block.proj_out(mixed)
