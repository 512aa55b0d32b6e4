"""Group norm with 32 groups, and SiLU after it, of features in channels-last order."""

from __future__ import annotations

import triton
import triton.language as tl

STAGES = tl.constexpr(3)  # blocks on their way from memory, and the one that is computed


@triton.jit
def group_sums_kernel(x, sums, HW, C: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr):
    """Sum the groups, and their squares, over chunks of the places: x [N, HW, C] -> sums float32 [N, CHUNKS, 2, 32].

    A program for each picture and chunk, of HW / CHUNKS places, a multiple of BLOCK.
    """
    n, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c = tl.arange(0, C)
    p = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, C), tl.float32)  # summed over the block at the end, where the threads wait for each other once
    squares = tl.zeros((BLOCK, C), tl.float32)
    places = HW // CHUNKS
    for start in tl.range(0, places, BLOCK, num_stages=STAGES):
        value = tl.load(x + n * HW * C + (chunk * places + start + p)[:, None] * C + c[None, :]).to(tl.float32)
        total += value
        squares += value * value
    at = sums + (n * CHUNKS + chunk) * 64 + tl.arange(0, 32)
    tl.store(at, tl.sum(tl.reshape(tl.sum(total, 0), (32, C // 32)), 1))
    tl.store(at + 32, tl.sum(tl.reshape(tl.sum(squares, 0), (32, C // 32)), 1))


@triton.jit
def group_norm_kernel(
    x, sums, weight, bias, y, HW, eps, C: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr, HAS_SILU: tl.constexpr
):
    """y = norm(x), then SiLU where HAS_SILU: x and y [N, HW, C], from the sums [N, CHUNKS, 2, 32]; weight and bias [C].

    Some programs share a picture, each a multiple of BLOCK places: few enough that they do not read the sums too often.
    """
    n = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, C)
    p = tl.arange(0, BLOCK)
    at = sums + (n * CHUNKS + tl.arange(0, CHUNKS))[:, None] * 64 + tl.arange(0, 32)[None, :]
    count = HW * (C // 32)
    mean = tl.sum(tl.load(at), 0) / count
    inverse = tl.rsqrt(tl.sum(tl.load(at + 32), 0) / count - mean * mean + eps)
    mean = tl.reshape(tl.broadcast_to(mean[:, None], (32, C // 32)), (C,))
    inverse = tl.reshape(tl.broadcast_to(inverse[:, None], (32, C // 32)), (C,))
    scale = inverse * tl.load(weight + c).to(tl.float32)
    shift = tl.load(bias + c).to(tl.float32) - mean * scale
    places = HW // tl.num_programs(1)
    first = x + n * HW * C + tl.program_id(1) * places * C
    into = y + n * HW * C + tl.program_id(1) * places * C
    for start in tl.range(0, places, BLOCK, num_stages=STAGES):
        place = (start + p)[:, None] * C + c[None, :]
        value = tl.load(first + place).to(tl.float32) * scale[None, :] + shift[None, :]
        if HAS_SILU:
            value = value / (1.0 + tl.exp(-value))
        tl.store(into + place, value.to(y.dtype.element_ty))
