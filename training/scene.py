"""Scenes, the content of images: objects, places, a relation or a count, a background; and random scenes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random

from training.palette import COLOUR_NAMES
from training.shapes import CANVAS, MIDDLE_OF, SHAPE_NAMES

PLACES: tuple[str, ...] = (
    "top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
RADII: dict[str, tuple[float, float]] = {"small": (25, 30), "medium": (43, 50), "large": (71, 80)}
SIZES: tuple[str, ...] = tuple(RADII)
RELATIONS: tuple[str, ...] = ("above", "below", "left of", "right of", "inside")
COUNTED_RADII: dict[tuple[int, str], tuple[float, float]] = {
    (2, "small"): (24, 31), (2, "large"): (42, 47), (3, "small"): (20, 26), (3, "large"): (29, 33),
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """A painted shape: centre and half the bounding box, in pixels."""

    shape: str
    colour: str
    cx: float
    cy: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """The content of an image. `kind` is "one", "two" (a relation) or "count" (several equal things)."""

    kind: str
    things: tuple[Thing, ...]
    background: str
    size: str | None = None
    place: str | None = None
    relation: str | None = None


def is_held_out(shape: str, colour: str, background: str) -> bool:
    """Whether training never paints this combination: one in ten, chosen by hash, always the same."""
    digest = hashlib.sha256(f"{shape}/{colour}/{background}".encode()).digest()
    return digest[0] * 256 + digest[1] < 6554


def _is_trained(shape: str, colour: str, background: str) -> bool:
    return colour != background and not is_held_out(shape, colour, background)


def _coordinate(rng: Random, where: int, radius: float) -> float:
    """Return a random coordinate near the low edge (`where` -1), the middle (0) or the high edge (1)."""
    if where == 0:
        return CANVAS / 2 + rng.uniform(-7, 7)
    near = radius + rng.uniform(6, 16)
    return near if where < 0 else CANVAS - near


def one_thing(rng: Random, shape: str, colour: str, background: str, size: str, place: str) -> Scene:
    """Return a scene of one object."""
    radius = rng.uniform(*RADII[size])
    row, column = divmod(PLACES.index(place), 3)
    thing = Thing(shape, colour, _coordinate(rng, column - 1, radius), _coordinate(rng, row - 1, radius), radius)
    return Scene("one", (thing,), background, size=size, place=place)


def two_things(rng: Random, first: tuple[str, str], second: tuple[str, str], relation: str, background: str) -> Scene:
    """Return a scene of two objects, each (shape, colour), in which the first is `relation` the second."""
    if relation == "inside":
        outer_radius = rng.uniform(90, 100)
        cx, cy = CANVAS / 2 + rng.uniform(-8, 8), CANVAS / 2 + rng.uniform(-8, 8)
        inner_cy = cy + MIDDLE_OF[second[0]] * outer_radius
        inner = Thing(*first, cx + rng.uniform(-3, 3), inner_cy + rng.uniform(-3, 3), rng.uniform(22, 27))
        return Scene("two", (inner, Thing(*second, cx, cy, outer_radius)), background, relation=relation)
    along = [rng.uniform(66, 76), CANVAS - rng.uniform(66, 76)]
    across = [CANVAS / 2 + rng.uniform(-12, 12) for _ in range(2)]
    if relation in ("below", "right of"):
        along.reverse()
    vertical = relation in ("above", "below")
    things = tuple(
        Thing(*what, a if vertical else b, b if vertical else a, rng.uniform(36, 44))
        for what, a, b in zip((first, second), across, along, strict=True)
    )
    return Scene("two", things, background, relation=relation)


def several_things(rng: Random, shape: str, colour: str, background: str, count: int, size: str) -> Scene:
    """Return a scene of two or three equal objects in a row."""
    radius = rng.uniform(*COUNTED_RADII[count, size])
    centres = (72, 184) if count == 2 else (48, 128, 208)
    cy = CANVAS / 2 + rng.uniform(-16, 16)
    things = tuple(Thing(shape, colour, cx + rng.uniform(-5, 5), cy + rng.uniform(-6, 6), radius) for cx in centres)
    return Scene("count", things, background, size=size)


def random_scene(rng: Random) -> Scene:
    """Return a random scene for training, without held-out combinations."""
    kind = rng.choices(("one", "two", "count"), (50, 32, 18))[0]
    while True:
        background = rng.choice(COLOUR_NAMES)
        first, second = ((rng.choice(SHAPE_NAMES), rng.choice(COLOUR_NAMES)) for _ in range(2))
        if not _is_trained(*first, background):
            continue
        if kind == "one":
            return one_thing(rng, *first, background, rng.choice(SIZES), rng.choice(PLACES))
        if kind == "count":
            return several_things(rng, *first, background, rng.choice((2, 3)), rng.choice(("small", "large")))
        relation = rng.choice(RELATIONS)
        if not _is_trained(*second, background) or (relation == "inside" and first[1] == second[1]):
            continue
        return two_things(rng, first, second, relation, background)
