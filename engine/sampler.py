"""From logits to one token an image: guidance, top-k, temperature, a seeded draw.

The arithmetic is min-dalle's `sample_tokens`; the draw is its own, so that an image's tokens depend on its seed alone and not on
its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

from engine.request import IMAGE_TOKEN_COUNT, SamplingSettings


def uniforms(seed: int) -> list[float]:
    """Return the 256 numbers, 0 <= u < 1, that draw an image's tokens; Python keeps this sequence stable across versions."""
    rng = Random(seed)
    return [rng.random() for _ in range(IMAGE_TOKEN_COUNT)]


def guide(logits: Tensor, factors: Tensor) -> Tensor:
    """Push logits [N, 2, V] (unconditional, conditional) away from the unconditional ones: -> [N, V]; factors [N, 1]."""
    return logits[:, 0] * (1 - factors) + logits[:, 1] * factors


def keep_top_k(logits: Tensor, top_k: Tensor) -> Tensor:
    """Tell which of logits [N, V] are at least the k-th of their row (ties are kept); top_k int64 [N, 1]."""
    count = min(int(top_k.max()), logits.shape[-1])
    best = logits.topk(count, dim=-1).values
    return logits >= best.gather(1, (top_k - 1).clamp(max=count - 1))


def draw(logits: Tensor, kept: Tensor, temperatures: Tensor, chances: Tensor) -> Tensor:
    """Draw a token a row by inverting the distribution at `chances`: [N, V] -> int64 [N].

    temperatures, chances [N, 1]. Sums are float64, so that no row depends on rounding.
    """
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperatures
    weights = scaled.double().exp_() * kept
    cumulative = weights.cumsum(-1)
    drawn = torch.searchsorted(cumulative, chances.double() * cumulative[:, -1:], right=True)
    return drawn[:, 0].clamp(max=logits.shape[-1] - 1)


def sample(logits: Tensor, settings: Sequence[SamplingSettings], chances: Sequence[float]) -> Tensor:
    """Draw the next token of each image: logits [N, 2, V] float32 -> int64 [N]."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]

    guided = guide(logits, column([s.supercondition_factor for s in settings]))
    top_k = torch.tensor([s.top_k for s in settings], device=logits.device)[:, None]
    kept = keep_top_k(guided, top_k)
    temperatures = column([s.temperature for s in settings])
    uniform = torch.tensor(chances, dtype=torch.float64, device=logits.device)[:, None]
    return draw(guided, kept, temperatures, uniform)
