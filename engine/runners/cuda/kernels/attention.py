"""Attention with one query for each row and head."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def image_attention_kernel(
    qkv, keys, values, mixed, slots, positions, W, H,
    SCALE: tl.constexpr, D: tl.constexpr, LENGTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Attend over the tokens that an image has so far, and over the new one, whose key and value are added to the cache.

    qkv [R, 3 W], mixed [R, W]; keys and values [2 slots, H, LENGTH, D]; positions [slots]. A program for each row and head.
    Only positions that exist are read, BLOCK at once.
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
    # A running softmax: sums of weights that are relative to the greatest score so far.
    top = tl.sum(query * new_key.to(tl.float32), 0)
    total = 1.0
    sums = new_value.to(tl.float32)
    for start in range(0, position, BLOCK):
        p = start + tl.arange(0, BLOCK)
        is_past = p < position
        block = base + p[:, None] * D + d[None, :]
        key = tl.load(keys + block, mask=is_past[:, None], other=0.0).to(tl.float32)
        value = tl.load(values + block, mask=is_past[:, None], other=0.0).to(tl.float32)
        score = tl.where(is_past, tl.sum(key * query[None, :], 1), float("-inf"))
        new_top = tl.maximum(top, tl.max(score, 0))
        weight = tl.exp(score - new_top)
        shrink = tl.exp(top - new_top)
        total = total * shrink + tl.sum(weight, 0)
        sums = sums * shrink + tl.sum(weight[:, None] * value, 0)
        top = new_top
    tl.store(mixed + r * W + h * D + d, (sums / total).to(mixed.dtype.element_ty))


@triton.jit
def text_attention_kernel(
    queries, keys, values, mixed, slots, lengths, W, H,
    SCALE: tl.constexpr, D: tl.constexpr, LENGTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Attend over the tokens of a row's prompt.

    queries and mixed [R, W]; keys and values [2 slots, H, LENGTH, D]; lengths [2 slots]. A program for each row and head. BLOCK
    is the power of two that LENGTH fits in.
    """
    r, h = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, D)
    p = tl.arange(0, BLOCK)
    row = tl.load(slots + r // 2) * 2 + r % 2
    exists = p < tl.load(lengths + row)
    block = (row.to(tl.int64) * H + h) * LENGTH * D + p[:, None] * D + d[None, :]
    key = tl.load(keys + block, mask=exists[:, None], other=0.0).to(tl.float32)
    value = tl.load(values + block, mask=exists[:, None], other=0.0).to(tl.float32)
    query = tl.load(queries + r * W + h * D + d).to(tl.float32) * SCALE
    score = tl.where(exists, tl.sum(key * query[None, :], 1), float("-inf"))
    weight = tl.exp(score - tl.max(score, 0))
    sums = tl.sum(weight[:, None] * value, 0) / tl.sum(weight, 0)
    tl.store(mixed + r * W + h * D + d, sums.to(mixed.dtype.element_ty))
