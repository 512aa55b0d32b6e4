"""Drawing tokens from the logits of a runner that computes nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.runners.runner import Draw, Drawn, LogitsRunner
from engine.sampler import log_likelihoods, sample
from engine.weights.config import ModelConfig


class SamplingRunner:
    """A `Runner` around a `LogitsRunner`: it keeps each image's last token and position, and draws one token at a time."""

    def __init__(self, logits_runner: LogitsRunner, config: ModelConfig) -> None:
        self.logits_runner = logits_runner
        self.encode = logits_runner.encode
        self.detokenize = logits_runner.detokenize
        self._start_token = config.decoder_start_token_id  # before an image's first one
        self._forget()

    def _forget(self) -> None:
        # Of the images in the batch:
        self._draws: list[Draw] = []
        self._tokens: list[int] = []  # the last of each
        self._positions: list[int] = []

    def admit(self, prompts: Sequence[Any], draws: Sequence[Draw]) -> None:
        """Append a slot for each prompt."""
        self.logits_runner.admit(prompts)
        self._draws += draws
        self._tokens += [self._start_token] * len(draws)
        self._positions += [0] * len(draws)

    def rearrange(self, order: Sequence[int]) -> None:
        """Move slot `order[i]` to slot i."""
        self.logits_runner.rearrange(order)
        self._draws = [self._draws[slot] for slot in order]
        self._tokens = [self._tokens[slot] for slot in order]
        self._positions = [self._positions[slot] for slot in order]

    def reset(self) -> None:
        """Free all slots."""
        self._forget()
        self.logits_runner.reset()

    def draw(self, steps: int) -> Drawn:
        """Draw one token of each image."""
        logits = self.logits_runner.step(self._tokens, self._positions)
        uniforms = [draw.uniforms[position] for draw, position in zip(self._draws, self._positions, strict=True)]
        tokens, not_finite = sample(logits, [draw.sampling for draw in self._draws], uniforms)
        self._tokens = tokens.tolist()
        self._positions = [position + 1 for position in self._positions]
        likelihoods = np.full(tokens.shape, np.nan)
        rows = [row for row, draw in enumerate(self._draws) if draw.needs_likelihoods and row not in not_finite]
        if rows:
            likelihoods[rows] = log_likelihoods(logits[rows, 1], tokens[rows])
        return Drawn(tokens[:, None], likelihoods[:, None], not_finite)
