"""The autoencoder's encoder: an image as 256 patches, each of two palette colours and a mask between them.

All training images are flat colours with smooth edges, so two palette colours and each pixel's coverage by the second describe a
16 x 16 patch. Only the masks must be learned (`training.codebook`); see docs/decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.palette import COLOUR_NAMES, RGB

PATCH = 16
GRID = 16
_COLOURS = len(COLOUR_NAMES)
_PURE = 20.0  # a pixel nearer than this to a palette colour has that colour; others are blends at an edge


@dataclass(frozen=True)
class Patches:
    """An image's patches, row by row."""

    first: NDArray[Any]  # int [256], indices of colours
    second: NDArray[Any]  # int [256], greater than `first` in patches with two colours, equal in others
    edges: NDArray[Any]  # int [E], indices of the patches with two colours
    masks: NDArray[Any]  # float32 [E, 256], coverage by the second colour


@lru_cache(maxsize=1)
def _nearest_colour() -> NDArray[Any]:
    """Return the palette index of each colour with 5 bits per channel, or 12 if no palette colour is near."""
    levels = np.arange(32, dtype=np.float32) * 8 + 4
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 1, 3)
    distance = np.linalg.norm(grid - RGB, axis=-1)
    return np.where(distance.min(-1) < _PURE, distance.argmin(-1), _COLOURS)


def split(image: NDArray[Any]) -> Patches:
    """Split an image, uint8 [256, 256, 3], into patches."""
    cells = image.reshape(GRID, PATCH, GRID, PATCH, 3).transpose(0, 2, 1, 3, 4).reshape(GRID * GRID, PATCH * PATCH, 3)
    packed = cells.astype(np.int32) >> 3
    label = _nearest_colour()[(packed[..., 0] << 10) | (packed[..., 1] << 5) | packed[..., 2]]
    slot = np.arange(GRID * GRID)[:, None] * (_COLOURS + 1) + label
    counts = np.bincount(slot.ravel(), minlength=GRID * GRID * (_COLOURS + 1)).reshape(GRID * GRID, _COLOURS + 1)
    order = np.argsort(-counts[:, :_COLOURS], axis=1, kind="stable")[:, :2]
    is_flat = counts[np.arange(GRID * GRID), order[:, 1]] == 0
    first = np.where(is_flat, order[:, 0], order.min(1))
    second = np.where(is_flat, order[:, 0], order.max(1))
    edges = np.flatnonzero(~is_flat)
    start, end = RGB[first[edges]], RGB[second[edges]]
    span = end - start
    masks = np.einsum("epc,ec->ep", cells[edges] - start[:, None], span) / (span**2).sum(-1, keepdims=True)
    return Patches(first, second, edges, np.clip(masks, 0, 1).astype(np.float32))
