"""The CUDA runner beside the torch runner, on the real weights and this GPU: a few steps, before it draws for anyone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.request import SamplingSettings
from engine.runners.cuda.runner import CudaRunner
from engine.runners.cuda.support import Unproven
from engine.runners.runner import Draw, LogitsRunner
from engine.sampler import sample, uniforms
from engine.weights.config import ModelConfig

# Around the ends of attention's blocks, and the last one. What lies between is zero in both caches.
POSITIONS = (0, 1, 2, 127, 128, 129, 255)
PROMPT_LENGTHS = (7, 64, 2)  # of three images; the last has a negative prompt, too
GRAPH_STEPS = 8
# The greatest error of a row of logits, beside the logits' spread, that rounding explains: Tiny's are 0.002 in
# float16 and 0.03 in bfloat16, and the large models have five times as many layers.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.25}
# Settings that cut the logits in different ways.
SAMPLING = (SamplingSettings(), SamplingSettings(0.5, 10, 4.0), SamplingSettings(1.5, 1000, 1.0))

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proof:
    """What both runners compute: three prompts, the last one's negative prompt, and forced tokens int64 [steps, 3]."""

    prompts: list[list[int]]
    negative: list[int]
    tokens: NDArray[Any]
    positions: Sequence[int] = POSITIONS  # of the tokens
    graph_steps: int = GRAPH_STEPS

    @classmethod
    def of(cls, config: ModelConfig, start: int, end: int) -> Proof:
        """Make up prompts and tokens for a model, whose prompts begin and end with two tokens."""
        rng = Random(0)

        def prompt(length: int) -> list[int]:
            length = min(length, config.text_token_count)
            return [start, *(rng.randrange(3, config.text_vocab_count) for _ in range(length - 2)), end]

        tokens = [[rng.randrange(config.logit_count) for _ in PROMPT_LENGTHS] for _ in POSITIONS]
        tokens[0] = [config.decoder_start_token_id] * len(PROMPT_LENGTHS)
        return cls([prompt(length) for length in PROMPT_LENGTHS], prompt(9), np.array(tokens))

    def encoded(self, runner: CudaRunner | LogitsRunner) -> list[Any]:
        """Encode the prompts."""
        *others, last = self.prompts
        return [*(runner.encode(prompt) for prompt in others), runner.encode(last, self.negative)]

    def reference(self, runner: LogitsRunner) -> NDArray[Any]:
        """Return another runner's logits, float32 [steps, 3, 2, V]."""
        runner.admit(self.encoded(runner))
        logits = [
            runner.step(row.tolist(), [position] * len(row)).copy()
            for row, position in zip(self.tokens, self.positions, strict=True)
        ]
        runner.rearrange([])
        return np.stack(logits)

    def check(self, runner: CudaRunner, reference: NDArray[Any], tolerance: float) -> None:
        """Compare a runner's logits with another one's, its draws with engine.sampler's, and its graphs with its steps.

        Raises Unproven. Logits with other bits alone than in a batch cost exactness only, and are logged.
        """
        encoded = self.encoded(runner)
        draws = [Draw(sampling, uniforms(seed)) for seed, (sampling, _) in enumerate(zip(SAMPLING, encoded, strict=False))]
        logits = self._check_logits(runner, encoded, draws, reference, tolerance)
        runner.admit(encoded[-1:], draws[-1:])
        alone = np.stack([runner.force(row[-1:].tolist(), [at])[0] for row, at in zip(self.tokens, self.positions, strict=True)])
        runner.rearrange([])
        if not np.array_equal(alone, logits[:, -1:]):
            _log.warning("on this GPU, images may differ in details by the number of images in the batch")
        # Last, as it leaves other numbers in the caches where the steps above find zeros.
        self._check_graphs(runner, encoded, draws)

    def _check_logits(
        self, runner: CudaRunner, encoded: list[Any], draws: list[Draw], reference: NDArray[Any], tolerance: float
    ) -> NDArray[Any]:
        runner.admit(encoded, draws)
        steps = []
        for row, position, expected in zip(self.tokens, self.positions, reference, strict=True):
            logits, drawn = runner.force(row.tolist(), [position] * len(row))
            spread = expected - expected.mean(-1, keepdims=True)
            error = float((np.linalg.norm(logits - expected, axis=-1) / np.linalg.norm(spread, axis=-1)).max())
            if not error < tolerance:  # NaN is no proof either
                raise Unproven(f"at position {position} its logits are {error:.2g} of their spread from torch's")
            tokens, _ = sample(logits, [draw.sampling for draw in draws], [draw.uniforms[position] for draw in draws])
            if not np.array_equal(drawn, tokens):
                raise Unproven(f"it draws the tokens {drawn.tolist()} where the CPU draws {tokens.tolist()}")
            steps.append(logits)
        runner.rearrange([])
        return np.stack(steps)

    def _check_graphs(self, runner: CudaRunner, encoded: list[Any], draws: list[Draw]) -> None:
        runner.admit(encoded, draws)
        by_graph = runner.draw(self.graph_steps).tokens
        runner.rearrange([])
        runner.admit(encoded, draws)
        tokens, by_step = self.tokens[0], []
        for position in range(self.graph_steps):
            _, tokens = runner.force(tokens.tolist(), [position] * len(tokens))
            by_step.append(tokens)
        runner.rearrange([])
        if not np.array_equal(by_graph, np.stack(by_step, 1)):
            raise Unproven("a graph of its step draws other tokens than the step")
