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
from engine.sampler import sample, uniforms
from engine.text import tokenize_prompt
from engine.weights.checkpoint import ModelFiles

BATCH = 32  # pictures at once


@dataclass(frozen=True, eq=False)
class Drawn:
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
) -> Iterator[Drawn]:
    """Draw a picture of each prompt by its seed. What a prompt leaves unsaid is said, if the model has a list for it."""
    words = files.known_words()
    said = prompts if words is None else [words.complete(prompt) for prompt in prompts]
    texts = [tokenize_prompt(files.tokenizer, prompt, files.config) for prompt in said]
    with tqdm(total=len(prompts), desc=title, unit="picture", mininterval=5) as bar:
        for first in range(0, len(prompts), BATCH):
            batch = slice(first, first + BATCH)
            yield from _draw_batch(files, runner, texts[batch], seeds[batch], settings)
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


def _draw_batch(
    files: ModelFiles, runner: Runner, texts: list[list[int]], seeds: Sequence[int], settings: SamplingSettings
) -> Iterator[Drawn]:
    count = len(texts)
    chances = [uniforms(seed) for seed in seeds]
    tokens = np.full((count, IMAGE_TOKEN_COUNT + 1), files.config.decoder_start_token_id)
    likelihoods = np.zeros(count)
    runner.admit([runner.encode(text) for text in texts])
    for step in range(IMAGE_TOKEN_COUNT):
        logits = runner.step(tokens[:, step].tolist(), [step] * count)
        tokens[:, step + 1] = sample(logits, [settings] * count, [own[step] for own in chances])
        conditional = logits[:, 1]
        highest = conditional.max(1, keepdims=True)
        whole = np.log(np.exp(conditional - highest).sum(1)) + highest[:, 0]
        likelihoods += conditional[np.arange(count), tokens[:, step + 1]] - whole
    runner.rearrange([])
    for row, likelihood in zip(tokens[:, 1:], likelihoods, strict=True):
        yield Drawn(row.reshape(GRID, GRID), float(likelihood))
