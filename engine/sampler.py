"""From logits to one token per image: guidance, top-k, temperature, a seeded draw.

The arithmetic is that of min-dalle's `sample_tokens`. The draw differs: an image's tokens depend on its seed alone, not on the
other images of the batch. Everything is numpy on one thread: a second thread pool would compete with the runner's.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consts import MAX_SEED
from engine.request import IMAGE_TOKEN_COUNT, SamplingSettings

_SEEDS = MAX_SEED + 1
_CHUNK_LOGITS = 2**16  # logits processed at once: more would not fit the CPU's fastest caches


def uniforms(seed: int, candidate: int = 0) -> list[float]:
    """Return the 256 numbers, 0 <= u < 1, that an image's tokens are drawn with; the same in all Python versions.

    Other candidates have other numbers: those of a seed above all that an image can have.
    """
    rng = Random(seed + candidate * _SEEDS)
    return [rng.random() for _ in range(IMAGE_TOKEN_COUNT)]


def guide(logits: NDArray[Any], factors: Sequence[float]) -> NDArray[Any]:
    """Apply classifier-free guidance to logits [N, 2, V] (unconditional, conditional): -> [N, V]."""
    shares = np.array([(1 - factor, factor) for factor in factors], dtype=np.float32)
    return logits[:, 0] * shares[:, :1] + logits[:, 1] * shares[:, 1:]


def keep_top_k(logits: NDArray[Any], top_k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the tokens whose logits [N, V] are at least their row's k-th greatest, in order, and their logits: both [N, K].

    Ties with the k-th are kept. K is the greatest count of any row; shorter rows are padded with logits of minus infinity.
    """
    count, vocabulary = logits.shape
    if top_k >= vocabulary:
        return np.broadcast_to(np.arange(vocabulary), logits.shape), logits
    kth = np.partition(logits, -top_k, axis=1)[:, -top_k, None]
    rows, tokens = np.divmod(np.flatnonzero(logits >= kth), vocabulary)
    if len(rows) == count * top_k:  # no ties: all rows keep the same number
        tokens = tokens.reshape(count, top_k)
        return tokens, np.take_along_axis(logits, tokens, axis=1)
    lengths = np.bincount(rows, minlength=count)
    places = np.arange(len(rows)) - np.repeat(lengths.cumsum() - lengths, lengths)
    kept = np.zeros((count, lengths.max()), dtype=np.int64)
    kept_logits = np.full(kept.shape, -np.inf, dtype=logits.dtype)
    kept[rows, places], kept_logits[rows, places] = tokens, logits[rows, tokens]
    return kept, kept_logits


def draw(logits: NDArray[Any], temperatures: Sequence[float], uniforms: Sequence[float]) -> NDArray[Any]:
    """Draw one index from each row of logits [N, K], by inverting the row's cumulative distribution at its chance: -> [N].

    Sums are float64, so that rounding does not change the draw.
    """
    scaled = (logits - logits.max(1, keepdims=True)) / np.array(temperatures, dtype=np.float32)[:, None]
    cumulative = np.exp(scaled.astype(np.float64)).cumsum(1)
    drawn = (cumulative <= np.array(uniforms)[:, None] * cumulative[:, -1:]).sum(1)
    return np.minimum(drawn, np.isfinite(logits).sum(1) - 1)


def log_likelihoods(logits: NDArray[Any], tokens: Sequence[int] | NDArray[Any]) -> NDArray[Any]:
    """Return the log-likelihood of each token by its row of logits [N, V], in nats, at temperature 1: float64 [N]."""
    shifted = (logits - logits.max(1, keepdims=True)).astype(np.float64)
    drawn = shifted[np.arange(len(tokens)), tokens]
    return drawn - np.log(np.exp(shifted).sum(1))


def sample(
    logits: NDArray[Any], settings: Sequence[SamplingSettings], uniforms: Sequence[float]
) -> tuple[NDArray[Any], list[int]]:
    """Draw the next token of each image: logits float32 [N, 2, V] -> tokens int64 [N], and the rows that are not finite.

    The tokens of these rows are 0; the others are drawn as without them.
    """
    tokens = np.zeros(len(logits), dtype=np.int64)
    not_finite: list[int] = []
    chunk = max(1, _CHUNK_LOGITS // logits.shape[2])
    for top_k in {each.top_k for each in settings}:
        same_k = [row for row, each in enumerate(settings) if each.top_k == top_k]
        for first in range(0, len(same_k), chunk):
            rows = same_k[first : first + chunk]
            is_contiguous = rows[-1] - rows[0] + 1 == len(rows)  # a slice needs no copy
            chosen = logits[rows[0] : rows[-1] + 1] if is_contiguous else logits[rows]
            guided = guide(chosen, [settings[row].supercondition_factor for row in rows])
            is_finite = np.isfinite(guided.max(1))  # NaN and infinity propagate to the maximum
            if not is_finite.all():
                not_finite += [row for row, is_good in zip(rows, is_finite, strict=True) if not is_good]
                rows = [row for row, is_good in zip(rows, is_finite, strict=True) if is_good]
                guided = guided[is_finite]
                if not rows:
                    continue
            kept, kept_logits = keep_top_k(guided, top_k)
            drawn = draw(kept_logits, [settings[row].temperature for row in rows], [uniforms[row] for row in rows])
            tokens[rows] = kept[np.arange(len(rows)), drawn]
    return tokens, sorted(not_finite)
