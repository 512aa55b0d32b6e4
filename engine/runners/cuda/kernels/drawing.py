"""From logits to one token for each image, with the arithmetic of engine.sampler."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def draw_kernel(
    logits, slots, tokens, positions, uniforms, factors, temperatures, top_ks, asks_likelihood, drawn, likelihoods, not_finite,
    V, STRIDE, idle, BLOCK: tl.constexpr, LENGTH: tl.constexpr,
):  # fmt: skip
    """Guidance, top-k, temperature and the seeded draw; a program for each image.

    logits float32 [R, STRIDE], of which V columns count. Of each slot: tokens, positions, factors, temperatures, top_ks,
    asks_likelihood and not_finite [slots]; uniforms float64, drawn int32 and likelihoods float64 [slots, LENGTH].
    The token becomes the next input, and goes to its position of `drawn`; the position moves on, but stays 0 in slot `idle`.
    """
    i = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    exists = c < V
    slot = tl.load(slots + i)
    position = tl.load(positions + slot)
    factor = tl.load(factors + slot)
    temperature = tl.load(temperatures + slot)
    top_k = tl.load(top_ks + slot)
    uniform = tl.load(uniforms + slot * LENGTH + position)
    unconditional = logits + 2 * i * STRIDE
    conditional = unconditional + STRIDE
    guided = tl.load(unconditional + c, mask=exists, other=0.0) * (1.0 - factor)
    guided += tl.load(conditional + c, mask=exists, other=0.0) * factor
    guided = tl.where(exists, guided + 0.0, float("-inf"))  # + 0.0 turns -0.0, which has other bits, into 0.0
    is_bad = tl.max((exists & ~(tl.abs(guided) < float("inf"))).to(tl.int32), 0)
    # The k-th greatest, found bit by bit, among integers that are ordered as the numbers are. Most bits need no look at all
    # numbers: many integers are greater than all of them, and as soon as exactly k are not less, the rest of the bits is settled.
    bits = guided.to(tl.int32, bitcast=True)
    key = tl.where(exists, bits ^ ((bits >> 31) & 0x7FFFFFFF), -2147483648)
    greatest = tl.max(key, 0)
    count = tl.sum((key >= 0).to(tl.int32), 0)
    is_positive = count >= top_k
    kth = tl.where(is_positive, 0, -2147483648).to(tl.int32)
    count = tl.where(is_positive, count, V)
    bit = tl.full((), 1 << 30, tl.int32)
    while (bit > 0) & (count > top_k):
        tried = kth | bit
        if tried <= greatest:
            above = tl.sum((key >= tried).to(tl.int32), 0)
            if above >= top_k:
                kth = tried
                count = above
        bit = bit >> 1
    is_kept = exists & (key >= kth)
    scaled = tl.div_rn(guided - tl.max(guided, 0), tl.zeros_like(guided) + temperature)
    cumulative = tl.cumsum(tl.where(is_kept, tl.exp(scaled.to(tl.float64)), 0.0), 0)
    is_past = is_kept & (cumulative > uniform * tl.max(cumulative, 0))
    token = tl.min(tl.where(is_past, c, BLOCK), 0)
    token = tl.where(token == BLOCK, tl.max(tl.where(is_kept, c, 0), 0), token)
    tl.store(tokens + slot, token)
    tl.store(drawn + slot * LENGTH + position, token)
    tl.store(positions + slot, tl.where(slot == idle, 0, tl.minimum(position + 1, LENGTH - 1)))
    tl.store(not_finite + slot, tl.load(not_finite + slot) | is_bad)
    if tl.load(asks_likelihood + slot) != 0:
        given = tl.load(conditional + c, mask=exists, other=float("-inf"))
        top = tl.max(given, 0)
        total = tl.sum(tl.where(exists, tl.exp((given - top).to(tl.float64)), 0.0), 0)
        own = tl.sum(tl.where(c == token, (given - top).to(tl.float64), 0.0), 0)
        tl.store(likelihoods + slot * LENGTH + position, own - tl.log(total))
