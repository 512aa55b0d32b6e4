"""Token grids: of finished images, of half-drawn ones, and of several images without seams."""

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
    """Return an image's tokens as a grid, int64 [16, 16]; fill the rest of a half-drawn image with its last token.

    The detokenizer must not see a placeholder: min-dalle's overflow in previews came from one.
    """
    filled = [*tokens, *[tokens[-1]] * (IMAGE_TOKEN_COUNT - len(tokens))]
    return np.array(filled, dtype=np.int64).reshape(GRID, GRID)


def paint_undrawn(pixels: NDArray[Any], tokens_drawn: int) -> NDArray[Any]:
    """Return a copy of a picture's pixels, uint8 [256 rows, 256 columns, 3], in grey after each image's first `tokens_drawn`."""
    undrawn = (np.arange(IMAGE_TOKEN_COUNT) >= tokens_drawn).reshape(GRID, GRID)
    height, width, _ = pixels.shape
    side = GRID * _PIXELS
    mask = np.tile(undrawn.repeat(_PIXELS, 0).repeat(_PIXELS, 1), (height // side, width // side))
    return np.where(mask[..., None], np.uint8(_UNDRAWN), pixels)


def seamless_shape(count: int) -> tuple[int, int]:
    """Return the rows and columns that `count` images fill without a gap, as square as possible."""
    rows = max(n for n in range(1, int(count**0.5) + 1) if count % n == 0)
    return rows, count // rows


def arrange_seamless(images: Sequence[Sequence[int]]) -> NDArray[Any]:
    """Join images' tokens into one grid, row by row: int64 [16 rows, 16 columns]."""
    rows, columns = seamless_shape(len(images))
    grids = [grid_of(tokens) for tokens in images]
    return np.block([grids[row * columns : (row + 1) * columns] for row in range(rows)])
