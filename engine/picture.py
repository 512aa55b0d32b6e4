"""Token grids: whole pictures, half-drawn ones, and several as one without seams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.request import IMAGE_TOKEN_COUNT

GRID = 16  # tokens on a side
_PIXELS = 16  # pixels on a token's side
_UNDRAWN = 128  # grey


def grid_of(tokens: Sequence[int]) -> NDArray[Any]:
    """Return an image's tokens as a grid, where it is half-drawn the rest filled with the last one drawn: int64 [16, 16].

    An unfilled token is none of the detokenizer's: min-dalle's overflow of previews came from there.
    """
    filled = [*tokens, *[tokens[-1]] * (IMAGE_TOKEN_COUNT - len(tokens))]
    return np.array(filled, dtype=np.int64).reshape(GRID, GRID)


def paint_undrawn(pixels: NDArray[Any], tokens_drawn: int) -> NDArray[Any]:
    """Paint the patches past `tokens_drawn` grey: uint8 [256, 256, 3] -> the same, a copy."""
    undrawn = (np.arange(IMAGE_TOKEN_COUNT) >= tokens_drawn).reshape(GRID, GRID)
    mask = undrawn.repeat(_PIXELS, 0).repeat(_PIXELS, 1)
    return np.where(mask[..., None], np.uint8(_UNDRAWN), pixels)


def seamless_shape(count: int) -> tuple[int, int]:
    """Return the rows and columns of `count` images as one picture: as square as it can be without a gap."""
    rows = max(n for n in range(1, int(count**0.5) + 1) if count % n == 0)
    return rows, count // rows


def arrange_seamless(images: Sequence[Sequence[int]]) -> NDArray[Any]:
    """Join images' tokens into one grid, row by row: int64 [16 rows, 16 columns]."""
    rows, columns = seamless_shape(len(images))
    grids = [grid_of(tokens) for tokens in images]
    return np.block([grids[row * columns : (row + 1) * columns] for row in range(rows)])
