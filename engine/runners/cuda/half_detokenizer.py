"""min-dalle's VQGAN detokenizer in 16 bits: features in channels-last order, and group norms in Triton."""

from __future__ import annotations

from contextlib import nullcontext
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
_MOST_CHUNKS, _MOST_PROGRAMS = 128, 512  # of a picture's places, each summed, or normed, by a program
_WARPS = 4
SIDE_BY_SIDE = 2  # pictures, where so much of the GPU's memory is free:
_PLENTY = 4 * 2**30


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
    group_norm_kernel[(count, min(_MOST_PROGRAMS, places // block))](
        x, sums, norm.weight, norm.bias, y, places, norm.eps, **sizes, HAS_SILU=has_silu, num_warps=_WARPS
    )
    return y


class HalfDetokenizer:
    """A float16 copy of min-dalle's detokenizer for square grids of one size.

    A picture has kernels of its own: a convolution's rounding depends on the batch, and a picture must not. The kernels of
    several pictures run side by side, as those of one leave most of a GPU idle.
    """

    def __init__(self, detokenizer: nn.Module, side: int, device: torch.device) -> None:
        """`side` is the number of tokens on a grid's side, a power of two."""
        half: Any = deepcopy(detokenizer).to(device, torch.float16)
        half = half.to(memory_format=torch.channels_last)
        counts = sorted({most_side_by_side(device), 1}, reverse=True)
        self._pictures = [_Pictures(half, count, side, device) for count in counts]

    def pixels(self, grids: Tensor) -> tuple[Tensor, Tensor]:
        """Detokenize grids int64 [N, side, side] on the device.

        Returns uint8 [N, 16 side, 16 side, 3], and for each picture whether all numbers were finite, bool [N].
        """
        parts = []
        while len(grids):
            pictures = next(each for each in self._pictures if each.count <= len(grids))
            parts.append(pictures.compute(grids[: pictures.count]))
            grids = grids[pictures.count :]
        pixels, are_finite = zip(*parts, strict=True)
        return torch.cat(pixels), torch.cat(are_finite)


def most_side_by_side(device: torch.device) -> int:
    """Return how many pictures to compute at once: one on a small GPU, whose memory the images in the batch need."""
    is_small = device.type == "cuda" and torch.cuda.mem_get_info(device)[0] < _PLENTY
    return 1 if is_small else SIDE_BY_SIDE


class _Pictures:
    """Memory and a graph for `count` pictures, each on a stream of its own."""

    def __init__(self, parts: Any, count: int, side: int, device: torch.device) -> None:
        self.count, self._parts = count, parts
        self._grids = torch.zeros((count, side, side), device=device, dtype=torch.int64)
        self._pixels = torch.zeros((count, 16 * side, 16 * side, 3), device=device, dtype=torch.uint8)
        self._are_finite = torch.zeros(count, device=device, dtype=torch.bool)
        self._streams = [torch.cuda.Stream(device) for _ in range(count)] if device.type == "cuda" else []
        self._compute_all = captured(self._compute, device)

    def compute(self, grids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels of `count` grids, and whether they are finite."""
        self._grids.copy_(grids)
        self._compute_all()
        return self._pixels.clone(), self._are_finite.clone()

    def _compute(self) -> None:
        for stream in self._streams:
            stream.wait_stream(torch.cuda.current_stream())
        for index in range(self.count):
            with torch.cuda.stream(self._streams[index]) if self._streams else nullcontext():
                z = _picture(self._parts, self._grids[index : index + 1])
                self._pixels[index : index + 1] = to_bytes(z)
                self._are_finite[index] = z.isfinite().all()
        for stream in self._streams:
            torch.cuda.current_stream().wait_stream(stream)


def _picture(parts: Any, grid: Tensor) -> Tensor:
    """Return a picture from 0 to 1, float32 [1, 3, 16 H, 16 W], of a grid [1, H, W]."""
    decoder = parts.decoder
    z = parts.embedding(grid).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
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
    picture: Tensor = decoder.conv_out(group_norm(z, decoder.norm_out, has_silu=True)).float()
    return picture


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
