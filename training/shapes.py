"""The eight shapes as signed distance functions: negative inside, in units of half the shape's bounding box.

The heart and the folding of the star are from Inigo Quilez, "2D distance functions".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

CANVAS = 256  # pixels on a side of an image

Field = NDArray[Any]  # float32, any shape
Distance = Callable[[Field, Field], Field]  # x to the right, y down, the bounding box is -1 to 1

_STAR_INNER = 0.46  # inner over outer radius: large enough that a small star is still a star


def _circle(x: Field, y: Field) -> Field:
    return np.hypot(x, y) - 1


def _square(x: Field, y: Field) -> Field:
    return np.maximum(np.abs(x), np.abs(y)) - 0.9


def _triangle(x: Field, y: Field) -> Field:
    slope = np.hypot(2.0, 1.0)  # from the tip (0, -1) to the corner (1, 1)
    return np.maximum(y - 1, (2 * np.abs(x) - (y + 1)) / slope)


def _diamond(x: Field, y: Field) -> Field:
    return (np.abs(x) / 0.8 + np.abs(y) - 1) / np.hypot(1 / 0.8, 1)


def _ring(x: Field, y: Field) -> Field:
    return np.abs(np.hypot(x, y) - 0.78) - 0.22


def _cross(x: Field, y: Field) -> Field:
    arm = 0.34
    ax, ay = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(ax - 1, ay - arm), np.maximum(ax - arm, ay - 1))


def _star(x: Field, y: Field) -> Field:
    y = y - 0.05  # the middle of a five-pointed star's box is a little above its centre
    radius = np.hypot(x, y)
    tenth = np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + tenth) % (2 * tenth) - tenth)  # 0 at a tip, pi/5 between two
    px, py = radius * np.cos(angle), radius * np.sin(angle)
    inner_x, inner_y = _STAR_INNER * np.cos(tenth), _STAR_INNER * np.sin(tenth)
    edge_x, edge_y = inner_x - 1, inner_y
    return ((px - 1) * edge_y - py * edge_x) / np.hypot(edge_x, edge_y)


def _heart(x: Field, y: Field) -> Field:
    scale = 1.2
    x, y = np.abs(x) / scale * 0.72 / 0.6, (1 - y) / 2 * 1.12
    x = x * 0.6
    lobe = np.hypot(x - 0.25, y - 0.75) - np.sqrt(2) / 4
    toward = 0.5 * np.maximum(x + y, 0)
    body = np.sqrt(np.minimum(x**2 + (y - 1) ** 2, (x - toward) ** 2 + (y - toward) ** 2)) * np.sign(x - y)
    return np.where(x + y > 1, lobe, body) / 0.56


SHAPES: dict[str, Distance] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
    "ring": _ring,
    "cross": _cross,
}
SHAPE_NAMES: tuple[str, ...] = tuple(SHAPES)

# (singular, plural); the first pair is the usual name. "ball", "box" and "donut" are not among them: the data set has those.
SHAPE_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "circle": (("circle", "circles"), ("disc", "discs"), ("dot", "dots")),
    "square": (("square", "squares"),),
    "triangle": (("triangle", "triangles"),),
    "star": (("star", "stars"),),
    "heart": (("heart", "hearts"), ("love heart", "love hearts")),
    "diamond": (("diamond", "diamonds"), ("rhombus", "rhombuses")),
    "ring": (("ring", "rings"), ("hoop", "hoops")),
    "cross": (("cross", "crosses"), ("plus", "pluses")),
}


def coverage(shape: str, cx: float, cy: float, radius: float) -> tuple[NDArray[Any], slice, slice]:
    """Return a shape's coverage of pixels, float32 [rows, columns] from 0 to 1, and its rows and columns in the image.

    `radius` is half the bounding box, in pixels.
    """
    reach = int(np.ceil(radius)) + 2
    rows = slice(max(0, int(cy) - reach), min(CANVAS, int(cy) + reach + 1))
    columns = slice(max(0, int(cx) - reach), min(CANVAS, int(cx) + reach + 1))
    y = (np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 0.5 - cy) / radius
    x = (np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] + 0.5 - cx) / radius
    x, y = np.broadcast_arrays(x, y)
    return np.clip(0.5 - SHAPES[shape](x, y) * radius, 0, 1).astype(np.float32), rows, columns
