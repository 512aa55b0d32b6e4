"""Painting scenes as pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.palette import COLOUR_NAMES, RGB
from training.scene import Scene
from training.shapes import CANVAS, coverage


def paint(scene: Scene) -> NDArray[Any]:
    """Paint a scene with smooth edges: uint8 [256, 256, 3]."""
    image = np.empty((CANVAS, CANVAS, 3), dtype=np.float32)
    image[:] = RGB[COLOUR_NAMES.index(scene.background)]
    # Larger things first, so that a thing inside another is painted over it.
    for thing in sorted(scene.things, key=lambda thing: -thing.radius):
        covered, rows, columns = coverage(thing.shape, thing.cx, thing.cy, thing.radius)
        part = image[rows, columns]
        part += covered[..., None] * (RGB[COLOUR_NAMES.index(thing.colour)] - part)
    return (image + 0.5).astype(np.uint8)
