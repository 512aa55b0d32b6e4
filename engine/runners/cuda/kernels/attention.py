"""Attention with one query for each row and head."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def attend(query, keys, values, count, top, total, sums, D: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr):
    """Go on with a running softmax over `count` positions, BLOCK at once: keys and values [count, D], query float32 [D].

    Its state is the greatest score so far, and the sums of the weights and of the weighted values [D], relative to it.
    With STAGES of 3 and more, blocks are on their way to shared memory while others are computed. (Loads to registers are not:
    the compiler puts them right before their first use, to save registers.)
    """
    d = tl.arange(0, D)
    for start in tl.range(0, count, BLOCK, num_stages=STAGES):
        p = start + tl.arange(0, BLOCK)
        exists = p < count
        at = p[:, None] * D + d[None, :]
        key = tl.load(keys + at, mask=exists[:, None], other=0.0)
        value = tl.load(values + at, mask=exists[:, None], other=0.0)
        score = tl.where(exists, tl.sum(key.to(tl.float32) * query[None, :], 1), float("-inf"))
        new_top = tl.maximum(top, tl.max(score, 0))
        weight = tl.exp(score - new_top)
        shrink = tl.exp(top - new_top)
        total = total * shrink + tl.sum(weight, 0)
        sums = sums * shrink + tl.sum(weight[:, None] * value.to(tl.float32), 0)
        top = new_top
    return sums / total


@triton.jit
def image_attention_kernel(
    qkv, keys, values, mixed, slots, positions, W, H,
    SCALE: tl.constexpr, D: tl.constexpr, LENGTH: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Attend over the tokens that an image has so far, and over the new one, whose key and value are added to the cache.

    qkv [R, 3 W], mixed [R, W]; keys and values [2 slots, H, LENGTH, D]; positions [slots]. A program for each row and head.
    Only positions that exist are read.
    """
    r, h = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, D)
    slot = tl.load(slots + r // 2)
    position = tl.load(positions + slot)
    base = ((slot * 2 + r % 2).to(tl.int64) * H + h) * LENGTH * D
    at = qkv + r * 3 * W + h * D + d
    query = tl.load(at).to(tl.float32) * SCALE
    new_key = tl.load(at + W)
    new_value = tl.load(at + 2 * W)
    tl.store(keys + base + position * D + d, new_key)
    tl.store(values + base + position * D + d, new_value)
    score = tl.sum(query * new_key.to(tl.float32), 0)
    one = tl.full((), 1.0, tl.float32)
    sums = attend(query, keys + base, values + base, position, score, one, new_value.to(tl.float32), D, BLOCK, STAGES)
    tl.store(mixed + r * W + h * D + d, sums.to(mixed.dtype.element_ty))


@triton.jit
def text_attention_kernel(
    queries, keys, values, mixed, slots, lengths, W, H,
    SCALE: tl.constexpr, D: tl.constexpr, LENGTH: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Attend over the tokens of a row's prompt.

    queries and mixed [R, W]; keys and values [2 slots, H, LENGTH, D]; lengths [2 slots]. A program for each row and head.
    """
    r, h = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, D)
    row = tl.load(slots + r // 2) * 2 + r % 2
    length = tl.load(lengths + row)
    base = (row.to(tl.int64) * H + h) * LENGTH * D
    query = tl.load(queries + r * W + h * D + d).to(tl.float32) * SCALE
    nothing, zero = tl.full((), float("-inf"), tl.float32), tl.full((), 0.0, tl.float32)
    sums = attend(query, keys + base, values + base, length, nothing, zero, tl.zeros((D,), tl.float32), D, BLOCK, STAGES)
    tl.store(mixed + r * W + h * D + d, sums.to(mixed.dtype.element_ty))
