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

_NEAR = 2**16  # logits that are worked on together: more would leave the nearest caches


def uniforms(seed: int) -> list[float]:
    """Return the 256 numbers, 0 <= u < 1, that draw an image's tokens; Python keeps this sequence stable across versions."""
    rng = Random(seed)
    return [rng.random() for _ in range(IMAGE_TOKEN_COUNT)]


def guide(logits: NDArray[Any], factors: Sequence[float]) -> NDArray[Any]:
    """Push logits [N, 2, V] (unconditional, conditional) away from the unconditional ones: -> [N, V]."""
    shares = np.array([(1 - factor, factor) for factor in factors], dtype=np.float32)
    return logits[:, 0] * shares[:, :1] + logits[:, 1] * shares[:, 1:]


def keep_top_k(logits: NDArray[Any], top_k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return which tokens have logits [N, V] of at least their row's k-th, in order, and those logits: both [N, K].

    Ties are kept: K is what the row with most of them keeps, and the other rows end in logits of minus infinity.
    """
    count, vocabulary = logits.shape
    if top_k >= vocabulary:
        return np.broadcast_to(np.arange(vocabulary), logits.shape), logits
    kth = np.partition(logits, -top_k, axis=1)[:, -top_k, None]
    rows, tokens = np.divmod(np.flatnonzero(logits >= kth), vocabulary)
    if len(rows) == count * top_k:  # no ties: every row keeps as many
        tokens = tokens.reshape(count, top_k)
        return tokens, np.take_along_axis(logits, tokens, axis=1)
    lengths = np.bincount(rows, minlength=count)
    places = np.arange(len(rows)) - np.repeat(lengths.cumsum() - lengths, lengths)
    kept = np.zeros((count, lengths.max()), dtype=np.int64)
    kept_logits = np.full(kept.shape, -np.inf, dtype=logits.dtype)
    kept[rows, places], kept_logits[rows, places] = tokens, logits[rows, tokens]
    return kept, kept_logits


def draw(logits: NDArray[Any], temperatures: Sequence[float], chances: Sequence[float]) -> NDArray[Any]:
    """Draw one of each row of logits [N, K] by inverting its distribution at its chance: -> [N].

    Sums are float64, so that none depends on rounding.
    """
    scaled = (logits - logits.max(1, keepdims=True)) / np.array(temperatures, dtype=np.float32)[:, None]
    cumulative = np.exp(scaled.astype(np.float64)).cumsum(1)
    drawn = (cumulative <= np.array(chances)[:, None] * cumulative[:, -1:]).sum(1)
    return np.minimum(drawn, np.isfinite(logits).sum(1) - 1)


class NotFinite(ArithmeticError):
    """Say which rows have logits to draw from that are no finite numbers."""

    def __init__(self, rows: list[int]) -> None:
        super().__init__(f"the logits of {len(rows)} images are no finite numbers")
        self.rows = rows


def sample(logits: NDArray[Any], settings: Sequence[SamplingSettings], chances: Sequence[float]) -> list[int]:
    """Draw the next token of each image: logits float32 [N, 2, V] -> N tokens. Raises NotFinite."""
    tokens = np.empty(len(logits), dtype=np.int64)
    at_once = max(1, _NEAR // logits.shape[2])
    for top_k in {each.top_k for each in settings}:
        alike = [row for row, each in enumerate(settings) if each.top_k == top_k]
        for rows in (alike[first : first + at_once] for first in range(0, len(alike), at_once)):
            is_run = rows[-1] - rows[0] + 1 == len(rows)  # then no copy is needed
            own = logits[rows[0] : rows[-1] + 1] if is_run else logits[rows]
            guided = guide(own, [settings[row].supercondition_factor for row in rows])
            is_finite = np.isfinite(guided.max(1))  # a maximum lets NaN and infinity through
            if not is_finite.all():
                raise NotFinite([row for row, is_good in zip(rows, is_finite, strict=True) if not is_good])
            kept, kept_logits = keep_top_k(guided, top_k)
            drawn = draw(kept_logits, [settings[row].temperature for row in rows], [chances[row] for row in rows])
            tokens[rows] = kept[np.arange(len(rows)), drawn]
    return tokens.tolist()
