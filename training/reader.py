"""Read a picture back: which shapes in which colours lie where, on which background. It knows nothing of the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.palette import COLOUR_NAMES, RGB
from training.scene import CANVAS
from training.shapes import SHAPE_NAMES, coverage

_SPECK = 90  # pixels: less is dirt, and counts as such
_FRAME = 3  # pixels along the border, where only background is painted


@dataclass(frozen=True)
class Found:
    """Hold one object that was read: its best shape, and how well each shape's template covers it (IoU, 0 to 1)."""

    shape: str
    colour: str
    cx: float
    cy: float
    radius: float  # half the template's bounding box
    area: int
    overlaps: dict[str, float]


@dataclass(frozen=True)
class Reading:
    """Hold what was read from a picture."""

    background: str
    objects: tuple[Found, ...]


def read(picture: NDArray[Any]) -> Reading:
    """Read a picture, uint8 [256, 256, 3]."""
    pixels = picture.astype(np.float32)
    labels = np.linalg.norm(pixels[:, :, None] - RGB, axis=-1).argmin(-1)
    frame = np.ones((CANVAS, CANVAS), dtype=bool)
    frame[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    background = int(np.bincount(labels[frame], minlength=len(RGB)).argmax())
    outlines: list[tuple[NDArray[Any], int]] = []
    for colour in range(len(RGB)):
        if colour == background:
            continue
        # Opened, so that the thin blends between two other colours at their edge do not count.
        parts, count = ndimage.label(ndimage.binary_opening(labels == colour, iterations=2))
        outlines += [(_outline(pixels, labels, parts == part, colour), colour) for part in range(1, count + 1)]
    outlines.sort(key=lambda one: -one[0].sum())
    objects: list[Found] = []
    for i, (outline, colour) in enumerate(outlines):
        # Seen through the hole of a thing that lies on a larger one, and so a part of that.
        is_part = any(colour == other and (outline & larger).sum() > 0.8 * outline.sum() for larger, other in outlines[:i])
        if outline.sum() >= _SPECK and not is_part:
            objects.append(_fit(outline, COLOUR_NAMES[colour]))
    return Reading(COLOUR_NAMES[background], tuple(objects))


def _outline(pixels: NDArray[Any], labels: NDArray[Any], core: NDArray[Any], colour: int) -> NDArray[Any]:
    """Return an object's pixels: nearer to its colour than to what is around it, and what is painted over it."""
    near = ndimage.binary_dilation(core, iterations=3)
    around = int(np.bincount(labels[ndimage.binary_dilation(near, iterations=2) & ~near], minlength=len(RGB)).argmax())
    nearer = np.linalg.norm(pixels - RGB[colour], axis=-1) < np.linalg.norm(pixels - RGB[around], axis=-1)
    outline: NDArray[Any] = core | (near & nearer)
    holes, count = ndimage.label(ndimage.binary_fill_holes(outline) & ~outline)
    for hole in range(1, count + 1):
        inside = holes == hole
        if (labels[inside] == around).mean() < 0.2:  # something lies on it; a ring's hole shows what is around the ring
            outline |= inside
    return outline


def _overlap(outline: NDArray[Any], shape: str, cx: float, cy: float, radius: float) -> float:
    covered, rows, columns = coverage(shape, cx, cy, radius)
    template = np.zeros_like(outline)
    template[rows, columns] = covered > 0.5
    return float((template & outline).sum() / (template | outline).sum())


def _template_facts(shape: str) -> tuple[float, float, float]:
    """Return a template's area, and its centroid from the middle of its box, for a radius of 1."""
    covered, rows, columns = coverage(shape, CANVAS / 2, CANVAS / 2, 100)
    cy, cx = ndimage.center_of_mass(covered)
    middle = CANVAS / 2 - 0.5
    return covered.sum() / 100**2, (cx + columns.start - middle) / 100, (cy + rows.start - middle) / 100


_FACTS = {shape: _template_facts(shape) for shape in SHAPE_NAMES}


def _fit(outline: NDArray[Any], colour: str) -> Found:
    """Fit every shape's template to an object by area and centroid, the two best more closely."""
    cy, cx = (c + 0.5 for c in ndimage.center_of_mass(outline))
    area = int(outline.sum())
    fits = {}
    for shape, (unit_area, dx, dy) in _FACTS.items():
        radius = float(np.sqrt(area / unit_area))
        place = (cx - dx * radius, cy - dy * radius, radius)
        fits[shape] = (_overlap(outline, shape, *place), place)
    for shape in sorted(fits, key=lambda name: -fits[name][0])[:2]:
        x, y, radius = fits[shape][1]
        tries = [(x + i, y + j, radius * scale) for i in (-1.5, 0, 1.5) for j in (-1.5, 0, 1.5) for scale in (0.96, 1, 1.04)]
        fits[shape] = max((_overlap(outline, shape, *place), place) for place in tries)
    best = max(fits, key=lambda name: fits[name][0])
    x, y, radius = fits[best][1]
    return Found(best, colour, x, y, radius, area, {shape: overlap for shape, (overlap, _) in fits.items()})
