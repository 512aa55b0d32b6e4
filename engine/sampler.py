"""From logits to one token an image: guidance, top-k, temperature, a seeded draw.

The arithmetic is min-dalle's `sample_tokens`; the draw is its own, so that an image's tokens depend on its seed alone and not on
its neighbours in the batch. All in numpy, on one thread: between two steps a second pool of threads would only be in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.request import IMAGE_TOKEN_COUNT, SamplingSettings


def uniforms(seed: int) -> list[float]:
    """Return the 256 numbers, 0 <= u < 1, that draw an image's tokens; Python keeps this sequence stable across versions."""
    rng = Random(seed)
    return [rng.random() for _ in range(IMAGE_TOKEN_COUNT)]


def guide(logits: NDArray[Any], factor: float) -> NDArray[Any]:
    """Push logits [2, V] (unconditional, conditional) away from the unconditional ones: -> [V]."""
    return logits[0] * np.float32(1 - factor) + logits[1] * np.float32(factor)


def keep_top_k(logits: NDArray[Any], top_k: int) -> NDArray[Any]:
    """Return which tokens have logits [V] of at least the k-th, in order; ties are kept."""
    if top_k >= len(logits):
        return np.arange(len(logits))
    kth = np.partition(logits, -top_k)[-top_k]
    return np.flatnonzero(logits >= kth)


def draw(logits: NDArray[Any], temperature: float, chance: float) -> int:
    """Draw one of logits [K] by inverting their distribution at `chance`; sums are float64, so that none depends on rounding."""
    scaled = (logits - logits.max()) / np.float32(temperature)
    cumulative = np.exp(scaled.astype(np.float64)).cumsum()
    drawn = np.searchsorted(cumulative, chance * cumulative[-1], side="right")
    return min(int(drawn), len(logits) - 1)


def sample(logits: NDArray[Any], settings: Sequence[SamplingSettings], chances: Sequence[float]) -> list[int]:
    """Draw the next token of each image: logits float32 [N, 2, V] -> N tokens."""
    tokens = []
    for row, own, chance in zip(logits, settings, chances, strict=True):
        guided = guide(row, own.supercondition_factor)
        kept = keep_top_k(guided, own.top_k)
        tokens.append(int(kept[draw(guided[kept], own.temperature, chance)]))
    return tokens
