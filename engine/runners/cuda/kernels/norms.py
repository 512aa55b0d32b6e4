"""Layer norms in float32, a program for each row. BLOCK is the power of two that a row fits in.

All loads come before the first sum, whose barriers none can pass: so they are on their way at once.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_norm(weight, bias, c, exists):
    """Return a norm's weight and bias, float32 [BLOCK]."""
    return tl.load(weight + c, mask=exists, other=0.0).to(tl.float32), tl.load(bias + c, mask=exists, other=0.0).to(tl.float32)


@triton.jit
def normalize(row, exists, count, weight, bias, eps):
    """Return the norm of a row [BLOCK] over the `count` places that exist; `weight` and `bias` are loaded."""
    mean = tl.sum(tl.where(exists, row, 0.0), 0) / count
    centred = tl.where(exists, row - mean, 0.0)
    scaled = centred * tl.rsqrt(tl.sum(centred * centred, 0) / count + eps)
    return scaled * weight + bias


@triton.jit
def embed_kernel(
    tokens, positions, slots, embedding, places, weight, bias, next_weight, next_bias, state, normed, W, eps,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """state = norm(embedding[token] + places[position]), normed = norm(state), both [R, W]; tokens and positions [slots]."""
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    exists = c < W
    scale, shift = load_norm(weight, bias, c, exists)
    next_scale, next_shift = load_norm(next_weight, next_bias, c, exists)
    slot = tl.load(slots + r // 2)
    token = tl.load(tokens + slot).to(tl.int64)
    position = tl.load(positions + slot)
    row = tl.load(embedding + token * W + c, mask=exists, other=0.0).to(tl.float32)
    row += tl.load(places + position * W + c, mask=exists, other=0.0).to(tl.float32)
    row = normalize(row, exists, W, scale, shift, eps)
    tl.store(state + r * W + c, row, mask=exists)
    row = normalize(row, exists, W, next_scale, next_shift, eps)
    tl.store(normed + r * W + c, row.to(normed.dtype.element_ty), mask=exists)


@triton.jit
def add_norm_kernel(
    state, added, weight, bias, next_weight, next_bias, normed, W, eps,
    IS_NORMED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """state += norm(added), or added as it is unless IS_NORMED; normed = norm(state), for the next product. All [R, W]."""
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    exists = c < W
    if IS_NORMED:
        scale, shift = load_norm(weight, bias, c, exists)
    next_scale, next_shift = load_norm(next_weight, next_bias, c, exists)
    row = tl.load(added + r * W + c, mask=exists, other=0.0).to(tl.float32)
    before = tl.load(state + r * W + c, mask=exists, other=0.0)
    if IS_NORMED:
        row = normalize(row, exists, W, scale, shift, eps)
    row += before
    tl.store(state + r * W + c, row, mask=exists)
    row = normalize(row, exists, W, next_scale, next_shift, eps)
    tl.store(normed + r * W + c, row.to(normed.dtype.element_ty), mask=exists)


@triton.jit
def gated_norm_kernel(gates, weight, bias, normed, M, M_USED, eps, BLOCK: tl.constexpr):
    """normed = norm(gelu(gate) * value): gates [R, 2 M] -> [R, M]. The norm is over the first M_USED; the rest become zero.

    weight and bias are [M], with zeros after M_USED.
    """
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    exists = c < M
    scale, shift = load_norm(weight, bias, c, exists)
    gate = tl.load(gates + r * 2 * M + c, mask=exists, other=0.0).to(tl.float32)
    value = tl.load(gates + r * 2 * M + M + c, mask=exists, other=0.0).to(tl.float32)
    row = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476)) * value
    row = normalize(row, c < M_USED, M_USED, scale, shift, eps)
    tl.store(normed + r * M + c, row.to(normed.dtype.element_ty), mask=exists)
