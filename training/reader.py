"""Reading an image back: its shapes, their colours and places, and its background. The reader does not see the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.palette import COLOUR_NAMES, RGB
from training.shapes import CANVAS, SHAPE_NAMES, coverage

_SPECK = 90  # pixels: smaller objects are noise, and ignored
_FRAME = 3  # pixels along the border, which is always background


@dataclass(frozen=True)
class Found:
    """An object found in an image."""

    shape: str  # the one with the greatest overlap
    colour: str
    cx: float
    cy: float
    radius: float  # half the template's bounding box
    overlaps: dict[str, float]  # with each shape's template: intersection over union, 0 to 1


@dataclass(frozen=True)
class Reading:
    """The content of an image."""

    background: str
    objects: tuple[Found, ...]


def read(image: NDArray[Any]) -> Reading:
    """Read an image, uint8 [256, 256, 3]."""
    pixels = image.astype(np.float32)
    labels = np.linalg.norm(pixels[:, :, None] - RGB, axis=-1).argmin(-1)
    frame = np.ones((CANVAS, CANVAS), dtype=bool)
    frame[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    background = int(np.bincount(labels[frame], minlength=len(RGB)).argmax())
    outlines: list[tuple[NDArray[Any], int]] = []
    for colour in range(len(RGB)):
        if colour == background:
            continue
        # The opening removes the thin blends at edges between two other colours.
        parts, count = ndimage.label(ndimage.binary_opening(labels == colour, iterations=2))
        outlines += [(_outline(pixels, labels, parts == part, colour), colour) for part in range(1, count + 1)]
    outlines.sort(key=lambda each: -each[0].sum())
    objects: list[Found] = []
    for i, (outline, colour) in enumerate(outlines):
        # An area seen through the hole of a thing on a larger one is a part of the larger one.
        is_part = any(colour == other and (outline & larger).sum() > 0.8 * outline.sum() for larger, other in outlines[:i])
        if outline.sum() >= _SPECK and not is_part:
            objects.append(_fit(outline, COLOUR_NAMES[colour]))
    return Reading(COLOUR_NAMES[background], tuple(objects))


def _outline(pixels: NDArray[Any], labels: NDArray[Any], core: NDArray[Any], colour: int) -> NDArray[Any]:
    """Return an object's pixels: those nearer to its colour than to its surroundings', and those of things painted over it."""
    near = ndimage.binary_dilation(core, iterations=3)
    around = int(np.bincount(labels[ndimage.binary_dilation(near, iterations=2) & ~near], minlength=len(RGB)).argmax())
    nearer = np.linalg.norm(pixels - RGB[colour], axis=-1) < np.linalg.norm(pixels - RGB[around], axis=-1)
    outline: NDArray[Any] = core | (near & nearer)
    holes, count = ndimage.label(ndimage.binary_fill_holes(outline) & ~outline)
    for hole in range(1, count + 1):
        inside = holes == hole
        if (labels[inside] == around).mean() < 0.2:  # a thing on it; a ring's hole has the colour around the ring
            outline |= inside
    return outline


def _overlap(outline: NDArray[Any], shape: str, cx: float, cy: float, radius: float) -> float:
    covered, rows, columns = coverage(shape, cx, cy, radius)
    template = np.zeros_like(outline)
    template[rows, columns] = covered > 0.5
    return float((template & outline).sum() / (template | outline).sum())


def _template_facts(shape: str) -> tuple[float, float, float]:
    """Return a template's area, and the offset of its centroid from the middle of its box, for a radius of 1."""
    covered, rows, columns = coverage(shape, CANVAS / 2, CANVAS / 2, 100)
    cy, cx = ndimage.center_of_mass(covered)
    middle = CANVAS / 2 - 0.5
    return covered.sum() / 100**2, (cx + columns.start - middle) / 100, (cy + rows.start - middle) / 100


_FACTS = {shape: _template_facts(shape) for shape in SHAPE_NAMES}


def _fit(outline: NDArray[Any], colour: str) -> Found:
    """Fit each shape's template to an object by area and centroid, then refine the two best fits."""
    cy, cx = (c + 0.5 for c in ndimage.center_of_mass(outline))
    area = outline.sum()
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
    return Found(best, colour, x, y, radius, {shape: overlap for shape, (overlap, _) in fits.items()})
