"""A runner that remembers the images' tokens for one that does not, and draws in numpy for one that can't draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.runners.runner import Draw, Drawn, LogitsRunner
from engine.sampler import log_likelihoods, sample
from engine.weights.config import ModelConfig


def draw_with_numpy(logits: NDArray[Any], positions: Sequence[int], draws: Sequence[Draw]) -> Drawn:
    """Draw one token of each image from the logits of a step, [N, 2, V]."""
    uniforms = [draw.uniforms[position] for draw, position in zip(draws, positions, strict=True)]
    tokens, not_finite = sample(logits, [draw.sampling for draw in draws], uniforms)
    likelihoods = np.full((len(draws), 1), np.nan)
    if rows := [row for row, draw in enumerate(draws) if draw.needs_likelihoods and row not in not_finite]:
        likelihoods[rows, 0] = log_likelihoods(logits[rows, 1], tokens[rows])
    return Drawn(tokens[:, None], likelihoods, not_finite)


class SamplingRunner:
    """A `Runner` around a `LogitsRunner`: it keeps each image's last token and position."""

    def __init__(self, logits_runner: LogitsRunner, config: ModelConfig) -> None:
        self.logits_runner = logits_runner
        self.encode = logits_runner.encode
        self.detokenize = logits_runner.detokenize
        self.pictures_at_once = logits_runner.pictures_at_once
        self._start_token = config.decoder_start_token_id  # before an image's first one
        self._set([], [], [])

    def _set(self, draws: list[Draw], tokens: list[int], positions: list[int]) -> None:
        """Set what is known of the images in the batch: how they are drawn, their last tokens, their positions."""
        self._draws, self._tokens, self._positions = draws, tokens, positions

    def admit(self, prompts: Sequence[Any], draws: Sequence[Draw]) -> None:
        """Append a slot for each prompt."""
        self.logits_runner.admit(prompts)
        count = len(draws)
        self._set([*self._draws, *draws], self._tokens + [self._start_token] * count, self._positions + [0] * count)

    def rearrange(self, order: Sequence[int]) -> None:
        """Move slot `order[i]` to slot i."""
        self.logits_runner.rearrange(order)
        self._set(_chosen(self._draws, order), _chosen(self._tokens, order), _chosen(self._positions, order))

    def reset(self) -> None:
        """Free all slots."""
        self._set([], [], [])
        self.logits_runner.reset()

    def draw(self, steps: int) -> Drawn:
        """Draw the next tokens of each image."""
        drawn = self.logits_runner.draw(self._tokens, self._positions, self._draws, steps)
        self._tokens = drawn.tokens[:, -1].tolist()
        self._positions = [position + drawn.tokens.shape[1] for position in self._positions]
        return drawn


def _chosen(values: Sequence[Any], order: Sequence[int]) -> list[Any]:
    return [values[slot] for slot in order]
