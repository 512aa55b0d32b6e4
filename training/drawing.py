"""Drawing prompts for the evaluation, and choosing the best of several pictures of each: the likeliest by the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.picture import GRID
from engine.request import IMAGE_TOKEN_COUNT, SamplingSettings
from engine.runners import Runner
from engine.runners.runner import Draw, Drawn
from engine.sampler import uniforms
from engine.text import tokenize_prompt
from engine.weights.checkpoint import ModelFiles

BATCH = 32  # pictures at once


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture: its tokens int64 [16, 16], and how likely the model finds them with the text, in nats."""

    tokens: NDArray[Any]
    likelihood: float


def draw_all(
    files: ModelFiles,
    runner: Runner,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: SamplingSettings,
    title: str = "drawing",
) -> Iterator[Picture]:
    """Draw a picture of each prompt by its seed. What a prompt leaves unsaid is said, if the model has a list for it."""
    words = files.known_words()
    said = prompts if words is None else [words.complete(prompt) for prompt in prompts]
    texts = [tokenize_prompt(files.tokenizer, prompt, files.config) for prompt in said]
    with tqdm(total=len(prompts), desc=title, unit="picture", mininterval=5) as bar:
        for first in range(0, len(prompts), BATCH):
            batch = slice(first, first + BATCH)
            yield from _draw_batch(runner, texts[batch], seeds[batch], settings)
            bar.update(len(seeds[batch]))


def draw_best(
    files: ModelFiles, runner: Runner, prompts: Sequence[str], settings: SamplingSettings, *, best_of: int, seed: int, title: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw `best_of` pictures of each prompt: uint8 [N, 256, 256, 3], the likeliest of each; and of all of them the tokens."""
    many = [prompt for prompt in prompts for _ in range(best_of)]
    drawn = list(draw_all(files, runner, many, range(seed, seed + len(many)), settings, title))
    best = [max(drawn[at : at + best_of], key=lambda each: each.likelihood) for at in range(0, len(drawn), best_of)]
    pixels = np.concatenate([runner.detokenize(each.tokens[None]) for each in best])
    return pixels, np.stack([each.tokens for each in drawn]).reshape(len(prompts), best_of, GRID, GRID)


def _draw_batch(runner: Runner, texts: list[list[int]], seeds: Sequence[int], settings: SamplingSettings) -> Iterator[Picture]:
    runner.admit([runner.encode(text) for text in texts], [Draw(settings, uniforms(seed), True) for seed in seeds])
    parts: list[Drawn] = []
    while (left := IMAGE_TOKEN_COUNT - sum(part.tokens.shape[1] for part in parts)) > 0:
        parts.append(runner.draw(left))
    runner.rearrange([])
    tokens, likelihoods = (np.concatenate(each, axis=1) for each in zip(*((p.tokens, p.likelihoods) for p in parts), strict=True))
    for row, likelihood in zip(tokens, likelihoods.sum(1), strict=True):
        yield Picture(row.reshape(GRID, GRID), float(likelihood))
