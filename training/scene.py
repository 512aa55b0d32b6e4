"""Scenes, the content of pictures: things at places on a background, and what a caption says of them.

What is said is chosen first. What is left unsaid is chance, but chance that looks good: a large or medium thing about the middle,
on a plain light background.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Literal

from training.catalogue import SHAPE_GROUP, catalogue, trained_indices
from training.palette import COLOUR_NAMES
from training.scenery import SCENERY_NAMES
from training.shapes import CANVAS, SHAPE_NAMES

Kind = Literal["one", "two", "inside", "alike", "three"]

STEP = 16  # pixels of a token: sizes and places are multiples, so that a thing is the same block of tokens wherever it is
SIDES = (64, 112, 192)  # pixels of a small, a medium and a large thing
SIZES = ("small", "medium", "large")
PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
RELATIONS = ("above", "below", "left of", "right of")
BACKGROUNDS = COLOUR_NAMES + SCENERY_NAMES
MOST_THINGS = 3

_KINDS: dict[Kind, int] = {"one": 58, "two": 20, "inside": 5, "alike": 11, "three": 6}
_GROUP_WEIGHTS = {0: 0.7, 1: 0.8, 3: 1.5, 4: 1.3}  # fewer faces and people, more animals and food
_SHAPES = 0.18  # the share of shapes among things
_SAID_BACKGROUNDS = [4.0 if name == "white" else 2.6 for name in COLOUR_NAMES] + [1.6] * len(SCENERY_NAMES)
_UNSAID_BACKGROUNDS = {"white": 6, "yellow": 1, "pink": 1, "cyan": 1, "gray": 1}
_BESIDE = 0.35  # the share of captions of things beside one another that do not say which is on the left
_OUTER_SHAPES = ("circle", "square", "heart", "diamond", "star")  # a small thing fits inside


@dataclass(frozen=True)
class Placed:
    """A thing at a place: its index in the catalogue, the index of its size, and its top left corner in pixels."""

    thing: int
    size: int
    y: int
    x: int


@dataclass(frozen=True)
class Scene:
    """The content of a picture. Things are painted in order: for "inside", the outer shape is the first."""

    kind: Kind
    background: str
    placed: tuple[Placed, ...]
    size: str | None = None  # of one thing
    place: str | None = None  # of one thing
    relation: str | None = None  # of two: the first is `relation` the second


@dataclass(frozen=True)
class Said:
    """The parts of a scene that its caption says; things, counts and relations always are."""

    background: bool = True
    size: bool = True
    place: bool = True
    side: bool = True  # which of two things beside one another is on the left


def random_scene(rng: Random, kind: Kind | None = None) -> tuple[Scene, Said]:
    """Return a random scene, of a kind if one is given, and what its caption says."""
    chosen = kind or rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    said = Said(rng.random() < 0.7, rng.random() < 0.4, rng.random() < 0.4)
    while True:
        background = _background(rng, said.background)
        scene = _SCENES[chosen](rng, background, said)
        if _is_visible(scene):
            is_beside = scene.relation in ("left of", "right of")
            return scene, replace(said, side=rng.random() > _BESIDE) if is_beside else said


def one_thing(rng: Random, thing: int, background: str, size: str, place: str) -> Scene:
    """Return a scene of one thing."""
    number = SIZES.index(size)
    row, column = divmod(PLACES.index(place), 3)
    placed = Placed(thing, number, _offset(rng, row - 1, SIDES[number]), _offset(rng, column - 1, SIDES[number]))
    return Scene("one", background, (placed,), size, place)


def two_things(rng: Random, first: int, second: int, relation: str, background: str) -> Scene:
    """Return a scene of two medium things, the first above, below, left of or right of the second."""
    along = (0, CANVAS - SIDES[1]) if relation in ("above", "left of") else (CANVAS - SIDES[1], 0)
    across = [STEP * rng.choice((3, 4, 4, 5, 5)) for _ in along] if rng.random() < 0.3 else [STEP * rng.choice((4, 5))] * 2
    placed = (
        Placed(thing, 1, a, b) if relation in ("above", "below") else Placed(thing, 1, b, a)
        for thing, a, b in zip((first, second), along, across, strict=True)
    )
    return Scene("two", background, tuple(placed), relation=relation)


def thing_inside(inner: int, outer: int, background: str) -> Scene:
    """Return a scene of a small thing inside a large shape."""
    return Scene("inside", background, (Placed(outer, 2, 32, 32), Placed(inner, 0, 96, 96)), relation="inside")


def in_a_row(rng: Random, things: tuple[int, ...], background: str) -> Scene:
    """Return a scene of two medium or three small things in a row, all alike or all different."""
    kind: Kind = "alike" if len(set(things)) == 1 else "three"
    if len(things) == 2:
        y, size, apart = STEP * rng.choice((4, 5)), 1, 144
    else:
        y, size, apart = STEP * rng.choice((5, 6, 7)), 0, 96
    return Scene(kind, background, tuple(Placed(thing, size, y, apart * column) for column, thing in enumerate(things)))


def random_thing(rng: Random) -> int:
    """Return the index of a random thing that training paints."""
    if rng.random() < _SHAPES:
        return rng.choice(_shapes())
    pictures, weights = _pictures()
    return pictures[bisect(weights, rng.random() * weights[-1])]


@lru_cache(maxsize=1)
def _shapes() -> list[int]:
    return [index for index, thing in enumerate(catalogue()) if thing.group == SHAPE_GROUP]


@lru_cache(maxsize=1)
def _pictures() -> tuple[list[int], list[float]]:
    """Return the trained pictures and their cumulated weights."""
    pictures = [index for index in trained_indices() if catalogue()[index].group != SHAPE_GROUP]
    return pictures, list(accumulate(_GROUP_WEIGHTS.get(catalogue()[index].group, 1.0) for index in pictures))


def _background(rng: Random, is_said: bool) -> str:
    if is_said:
        return rng.choices(BACKGROUNDS, _SAID_BACKGROUNDS)[0]
    return rng.choices(list(_UNSAID_BACKGROUNDS), list(_UNSAID_BACKGROUNDS.values()))[0]


def _one(rng: Random, background: str, said: Said) -> Scene:
    size = rng.choice(SIZES) if said.size else rng.choices(SIZES, (0, 4, 6))[0]
    return one_thing(rng, random_thing(rng), background, size, rng.choice(PLACES) if said.place else "centre")


def _two(rng: Random, background: str, said: Said) -> Scene:
    return two_things(rng, random_thing(rng), random_thing(rng), rng.choice(RELATIONS), background)


def _inside(rng: Random, background: str, said: Said) -> Scene:
    outer = rng.choice([index for index in _shapes() if catalogue()[index].shape in _OUTER_SHAPES])
    return thing_inside(random_thing(rng), outer, background)


def _alike(rng: Random, background: str, said: Said) -> Scene:
    return in_a_row(rng, (random_thing(rng),) * rng.choice((2, 3)), background)


def _three(rng: Random, background: str, said: Said) -> Scene:
    return in_a_row(rng, (random_thing(rng), random_thing(rng), random_thing(rng)), background)


_SCENES = {"one": _one, "two": _two, "inside": _inside, "alike": _alike, "three": _three}


def _is_visible(scene: Scene) -> bool:
    """Whether no shape has the colour of what is behind it, and no thing comes twice unless all are alike."""
    things = [placed.thing for placed in scene.placed]
    colours = [catalogue()[thing].colour for thing in things]
    if scene.background in colours or (scene.kind != "alike" and len(set(things)) < len(things)):
        return False
    return scene.kind != "inside" or colours[0] != colours[1]


def _offset(rng: Random, where: int, side: int) -> int:
    """Return the offset in pixels of a thing at the low edge (-1), about the middle (0) or at the high edge (1)."""
    room = (CANVAS - side) // STEP
    if where == 0:
        shift = rng.choice((0, 0, 0, 0, 1, -1) if side == SIDES[2] else (0, 0, 0, 1, -1, room % 2))
        return STEP * min(room, max(0, room // 2 + shift))
    from_edge = 0 if side == SIDES[2] else rng.choice((0, 0, 1))
    return STEP * (from_edge if where < 0 else room - from_edge)


assert set(_OUTER_SHAPES) <= set(SHAPE_NAMES)
