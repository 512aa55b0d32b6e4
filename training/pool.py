"""Batches of (prompt tokens, image tokens), painted as they are needed: every picture is new, every step repeatable."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.upstream import TextTokenizer
from training.caption import describe, random_said
from training.codebook import Codebook
from training.painting import paint
from training.scene import random_scene

PAD = 1
TEXT_LENGTH = 32  # every prompt of the recipe fits; one length means one compiled graph
LOSSES = 96  # tokens of an image that the loss is taken at: the rest are background next to background, and teach little
CAPTION_DROPOUT = 0.1  # what guidance's unconditional row is trained on


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Load min-dalle's tokenizer from `vocab.json` and `merges.txt`."""
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf8"))
    return TextTokenizer(vocabulary, (folder / "merges.txt").read_text(encoding="utf8").split("\n")[1:-1])


@dataclass(frozen=True)
class Batch:
    """Hold a training batch: text int64 [B, 32], padded with 1; image int64 [B, 256].

    The loss is taken at `places`, int64 [B * LOSSES], of the flattened image, each with its weight, float32: their weighted sum
    is an unbiased estimate of the mean over all tokens.
    """

    text: torch.Tensor
    image: torch.Tensor
    places: torch.Tensor
    weights: torch.Tensor


class Pool:
    """Paint, code and describe pictures."""

    def __init__(self, codebook: Codebook, tokenizer: TextTokenizer, seed: int) -> None:
        self._codebook = codebook
        self._tokenizer = tokenizer
        self._seed = seed

    def batch(self, step: int, size: int) -> Batch:
        """Return the batch of a step; the same step gives the same batch, so that training can be resumed."""
        rng = Random(self._seed * 1_000_003 + step)
        scenes = [random_scene(rng) for _ in range(size)]
        image = np.stack([self._codebook.encode(paint(scene)) for scene in scenes])
        prompts = ["" if rng.random() < CAPTION_DROPOUT else describe(scene, random_said(rng), rng) for scene in scenes]
        tokens = [self._tokenizer.tokenize(prompt)[:TEXT_LENGTH] for prompt in prompts]
        text = torch.full((size, TEXT_LENGTH), PAD)
        for row, ids in zip(text, tokens, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        places, weights = choose_places(image, np.random.default_rng(rng.getrandbits(64)))
        return Batch(text, torch.from_numpy(image), torch.from_numpy(places), torch.from_numpy(weights))


def choose_places(image: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Choose where the loss is taken: wherever a token differs from the one before or above, and at random elsewhere.

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
