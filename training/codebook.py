"""The autoencoder's codebook: the most frequent masks between two colours.

    python -m training.codebook

A token is a pair of palette colours and one of `MASK_COUNT` masks, or one flat colour. This is a product codebook: a form learned
in one colour is known in all. The masks are k-means centroids, which vector quantisation with a moving average converges to. They
start from encoder outputs; unused centroids are replaced by the masks with the greatest errors.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from training.painting import paint
from training.palette import COLOUR_NAMES
from training.patches import PATCH, split
from training.paths import RUNS
from training.scene import random_scene

MASK_COUNT = 61
_COLOURS = len(COLOUR_NAMES)
_PAIRS = tuple(combinations(range(_COLOURS), 2))
_PAIR_INDEX = np.zeros((_COLOURS, _COLOURS), dtype=np.int64)
for _i, (_a, _b) in enumerate(_PAIRS):
    _PAIR_INDEX[_a, _b] = _i
TOKEN_COUNT = _COLOURS + len(_PAIRS) * MASK_COUNT  # 4038: the flat colours come first


def token_parts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return each token's first colour, second colour and mask, int64 [TOKEN_COUNT]; flat tokens have the mask MASK_COUNT."""
    flat = torch.arange(_COLOURS)
    pairs = torch.tensor(_PAIRS).repeat_interleave(MASK_COUNT, 0)
    masks = torch.arange(MASK_COUNT).repeat(len(_PAIRS))
    return (
        torch.cat([flat, pairs[:, 0]]),
        torch.cat([flat, pairs[:, 1]]),
        torch.cat([torch.full((_COLOURS,), MASK_COUNT), masks]),
    )


class Codebook:
    """An encoder of images into tokens. `masks`: float32 [MASK_COUNT, 256]."""

    def __init__(self, masks: NDArray[Any]) -> None:
        self.masks = masks
        self._half_norms = (masks**2).sum(1) / 2

    @classmethod
    def load(cls, path: Path) -> Codebook:
        """Load a codebook that `python -m training.codebook` saved."""
        return cls(np.load(path))

    def encode(self, image: NDArray[Any]) -> NDArray[Any]:
        """Encode an image, uint8 [256, 256, 3], as tokens, int64 [256]."""
        patches = split(image)
        tokens = patches.first.astype(np.int64)
        nearest = (self._half_norms - patches.masks @ self.masks.T).argmin(1)
        pairs = _PAIR_INDEX[patches.first[patches.edges], patches.second[patches.edges]]
        tokens[patches.edges] = _COLOURS + pairs * MASK_COUNT + nearest
        return tokens


def learn(image_count: int, iterations: int, seed: int) -> NDArray[Any]:
    """Learn the masks from random images: float32 [MASK_COUNT, 256]."""
    rng = Random(seed)
    images = tqdm(range(image_count), desc="painting", unit="image")
    masks = torch.from_numpy(np.concatenate([split(paint(random_scene(rng))).masks for _ in images]))
    generator = torch.Generator().manual_seed(seed)
    centroids = masks[torch.randperm(len(masks), generator=generator)[:MASK_COUNT]].clone()
    for _ in tqdm(range(iterations), desc="codebook"):
        nearest = ((centroids**2).sum(1) - 2 * masks @ centroids.T).argmin(1)
        used = torch.bincount(nearest, minlength=MASK_COUNT)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, masks)
        unused = (used == 0).nonzero()[:, 0]
        means = sums / used.clamp(min=1)[:, None]
        if len(unused):
            errors = ((masks - centroids[nearest]) ** 2).sum(1)
            means[unused] = masks[errors.topk(len(unused)).indices]
        centroids = means
    return centroids.reshape(MASK_COUNT, PATCH * PATCH).numpy()


def main(arguments: list[str] | None = None) -> None:
    """Learn the codebook and save it in the folder for runs."""
    parser = argparse.ArgumentParser(description="Learn the codebook of edge masks.")
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args(arguments)
    RUNS.mkdir(parents=True, exist_ok=True)
    np.save(RUNS / "codebook.npy", learn(options.pictures, options.iterations, options.seed))


if __name__ == "__main__":
    main()
