"""The twelve sceneries: backgrounds of flat parts, stripes and dots at multiples of 16 pixels, or nearly so."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.shapes import CANVAS

Picture = NDArray[np.float32]  # [256, 256, 3], 0 to 255
Colour = tuple[int, int, int]

_STAR = (250, 245, 210)

SCENERY_WORDS: dict[str, tuple[str, ...]] = {
    "grass": ("on the grass", "on grass", "in a field", "in a meadow", "in the park"),
    "sea": ("in the sea", "at sea", "on the sea", "in the ocean", "on the water"),
    "underwater": ("under water", "underwater", "under the sea"),
    "beach": ("on the beach", "on a beach", "at the beach"),
    "desert": ("in the desert", "in a desert"),
    "snow": ("in the snow", "on the snow", "in winter"),
    "night": ("at night", "under the stars", "in the dark", "under a night sky"),
    "space": ("in space", "in outer space", "among the stars"),
    "sunset": ("at sunset", "in front of a sunset", "at dusk"),
    "forest": ("in the forest", "in a forest", "in the woods"),
    "city": ("in the city", "in a city", "in front of a city"),
    "room": ("in a room", "indoors", "at home"),
}
SCENERY_NAMES: tuple[str, ...] = tuple(SCENERY_WORDS)


@lru_cache(maxsize=1)
def sceneries() -> NDArray[np.uint8]:
    """Paint all sceneries, in the order of `SCENERY_NAMES`: uint8 [12, 256, 256, 3]. Always the same."""
    rng = np.random.default_rng(3)
    night = _with_stars(_bands((0, (24, 34, 84)), (192, (20, 48, 40))), 22, 170, rng)
    space = _with_stars(_bands((0, (10, 8, 28))), 40, 250, rng)
    painted: dict[str, Callable[[], Picture]] = {
        "grass": lambda: _bands((0, (150, 208, 250)), (176, (104, 184, 84))),
        "sea": lambda: _bands((0, (170, 218, 250)), (128, (40, 120, 200))),
        "underwater": lambda: _fade((60, 180, 220), (10, 60, 130), CANVAS),
        "beach": lambda: _bands((0, (150, 212, 250)), (96, (50, 150, 210)), (160, (240, 218, 160))),
        "desert": lambda: _bands((0, (252, 222, 170)), (160, (226, 176, 100))),
        "snow": lambda: _bands((0, (196, 222, 244)), (160, (244, 248, 252))),
        "night": lambda: night,
        "space": lambda: space,
        "sunset": _sunset,
        "forest": _forest,
        "city": _city,
        "room": lambda: _bands((0, (238, 220, 196)), (184, (160, 112, 72))),
    }
    pictures = np.stack([painted[name]() for name in SCENERY_NAMES])
    return np.clip(pictures + 0.5, 0, 255).astype(np.uint8)


def _bands(*bands: tuple[int, Colour]) -> Picture:
    """Paint bands, each from a row down to the next band."""
    picture = np.zeros((CANVAS, CANVAS, 3), np.float32)
    for top, colour in bands:
        picture[top:] = colour
    return picture


def _fade(top: Colour, bottom: Colour, height: int) -> Picture:
    share = np.clip(np.arange(CANVAS)[:, None, None] / height, 0, 1)
    mixed = (1 - share) * np.array(top) + share * np.array(bottom)
    return np.broadcast_to(mixed, (CANVAS, CANVAS, 3)).astype(np.float32)


def _with_stars(picture: Picture, count: int, lowest: int, rng: np.random.Generator) -> Picture:
    for _ in range(count):
        y, x = rng.integers(4, lowest), rng.integers(4, 252)
        picture[y : y + 3, x : x + 3] = _STAR
    return picture


def _sunset() -> Picture:
    picture = _fade((96, 60, 140), (252, 176, 80), 190)
    picture[192:] = (70, 50, 80)
    return picture


def _forest() -> Picture:
    picture: Any = _bands((0, (190, 226, 190)), (192, (84, 130, 70)))
    for number, x in enumerate(range(0, CANVAS + 1, 32)):  # fir trees in two heights and greens
        tip = 48 + 16 * (number % 2)
        for y in range(tip, 192):
            half = (y - tip) * 0.16
            picture[y, max(0, int(x - half)) : int(x + half) + 1] = (50, 116 + 14 * (number % 2), 66)
    return picture


def _city() -> Picture:
    picture: Any = _bands((0, (178, 206, 232)), (208, (110, 112, 120)))
    for number, (x, top) in enumerate(((0, 96), (48, 48), (96, 128), (144, 64), (192, 112), (224, 80))):
        shade = number % 3
        picture[top:208, x : x + 40] = (120 + 12 * shade, 130 + 10 * shade, 150 + 8 * shade)
        for y in range(top + 12, 200, 24):
            for window in range(x + 8, x + 34, 16):
                picture[y : y + 8, window : window + 6] = (250, 230, 150)
    return picture
