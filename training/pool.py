"""Batches of prompt tokens and image tokens, painted on demand: all images are new, and steps are reproducible."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.upstream import TextTokenizer
from training.caption import describe, random_mentions
from training.codebook import Codebook
from training.painting import paint
from training.scene import random_scene

PAD = 1
TEXT_LENGTH = 32  # fits all training prompts; one length means one compiled graph
LOSSES = 96  # tokens per image with a loss: most others are background next to background, and teach little
CAPTION_DROPOUT = 0.1  # the share of empty prompts, which train guidance's unconditional row


@dataclass(frozen=True)
class Batch:
    """A training batch.

    The weighted sum of the losses at `places` is an unbiased estimate of the mean loss over all tokens.
    """

    text: torch.Tensor  # int64 [B, 32], padded with 1
    image: torch.Tensor  # int64 [B, 256]
    places: torch.Tensor  # int64 [B * LOSSES], indices into the flattened image
    weights: torch.Tensor  # float32 [B * LOSSES]


class Pool:
    """A source of batches of painted, encoded and described images."""

    def __init__(self, codebook: Codebook, tokenizer: TextTokenizer, seed: int) -> None:
        self._codebook = codebook
        self._tokenizer = tokenizer
        self._seed = seed

    def batch(self, step: int, size: int) -> Batch:
        """Return a step's batch, always the same for the same step, so that training can be resumed."""
        rng = Random(self._seed * 1_000_003 + step)
        scenes = [random_scene(rng) for _ in range(size)]
        image = np.stack([self._codebook.encode(paint(scene)) for scene in scenes])
        prompts = ["" if rng.random() < CAPTION_DROPOUT else describe(scene, random_mentions(rng), rng) for scene in scenes]
        tokens = [self._tokenizer.tokenize(prompt)[:TEXT_LENGTH] for prompt in prompts]
        text = torch.full((size, TEXT_LENGTH), PAD)
        for row, ids in zip(text, tokens, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        places, weights = choose_places(image, np.random.default_rng(rng.getrandbits(64)))
        return Batch(text, torch.from_numpy(image), torch.from_numpy(places), torch.from_numpy(weights))


def choose_places(image: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Choose the places of the loss: tokens that differ from the token before or above, and random others.

    image int64 [B, 256] -> places int64 [B * LOSSES], weights float32 [B * LOSSES], which sum to 1.
    """
    grid = image.reshape(-1, 16, 16)
    changes = np.zeros_like(grid, dtype=bool)
    changes[:, 0, 0] = True
    changes[:, :, 1:] |= grid[:, :, 1:] != grid[:, :, :-1]
    changes[:, 1:] |= grid[:, 1:] != grid[:, :-1]
    total = len(image) * LOSSES
    sure = rng.permutation(np.flatnonzero(changes))[: total // 2]
    others = np.setdiff1d(np.arange(image.size), sure)
    chosen = rng.choice(others, total - len(sure), replace=False)
    weights = np.concatenate([np.full(len(sure), 1.0), np.full(len(chosen), len(others) / len(chosen))])
    return np.concatenate([sure, chosen]), (weights / image.size).astype(np.float32)
