"""The twelve colours, and the words for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "orange": (248, 140, 28),
    "yellow": (250, 222, 50),
    "green": (48, 160, 72),
    "blue": (44, 88, 212),
    "purple": (128, 58, 170),
    "pink": (246, 150, 192),
    "brown": (128, 78, 44),
    "black": (24, 24, 26),
    "white": (246, 246, 246),
    "gray": (140, 142, 146),
    "cyan": (66, 204, 216),
}
COLOUR_NAMES: tuple[str, ...] = tuple(COLOURS)
RGB: NDArray[Any] = np.array(list(COLOURS.values()), dtype=np.float32)  # [12, 3], 0 to 255

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "navy", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
    "brown": ("brown", "chocolate"),
    "black": ("black", "ebony"),
    "white": ("white", "snow white"),
    "gray": ("gray", "grey", "silver"),
    "cyan": ("cyan", "turquoise", "teal", "aqua"),
}
