"""Batches of (prompt tokens, image tokens), painted as they are needed: every picture is new, every step repeatable."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch

from engine.upstream import TextTokenizer
from training.caption import describe, random_said
from training.codebook import Codebook
from training.painting import paint
from training.scene import random_scene

PAD = 1
TEXT_LENGTH = 32  # every prompt of the recipe fits; one length means one compiled graph
CAPTION_DROPOUT = 0.1  # what guidance's unconditional row is trained on


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Load min-dalle's tokenizer from `vocab.json` and `merges.txt`."""
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf8"))
    return TextTokenizer(vocabulary, (folder / "merges.txt").read_text(encoding="utf8").split("\n")[1:-1])


@dataclass(frozen=True)
class Batch:
    """Hold a training batch: text int64 [B, 32], padded with 1; image int64 [B, 256]."""

    text: torch.Tensor
    image: torch.Tensor


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
        return Batch(text, torch.from_numpy(image))
