"""Comparison of what was read in a picture with what its prompt asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

from training.catalogue import catalogue
from training.reader import Found, Reading
from training.scene import PLACES, SIDES, SIZES, Said, Scene
from training.shapes import CANVAS

BESIDE = "beside"
_EXTRA = 0.5  # a thing that was not asked for and is this much as visible as the least that was


@dataclass(frozen=True)
class Wanted:
    """What a prompt asks for. Each thing is a set of indices of the catalogue, any of which is right."""

    things: tuple[frozenset[int], ...]
    background: str | None = None
    relation: str | None = None  # of two things: the first is `relation` the second, or `BESIDE` it, on either side
    size: str | None = None  # of one thing
    place: str | None = None  # of one thing


def wanted_of(scene: Scene, said: Said) -> Wanted:
    """Return what a caption of a scene asks for."""
    things = tuple(namesakes(placed.thing) for placed in scene.placed)
    if scene.kind == "inside":
        things = things[::-1]
    return Wanted(
        things,
        scene.background if said.background else None,
        scene.relation if said.side else BESIDE,
        scene.size if said.size else None,
        scene.place if said.place else None,
    )


@cache
def namesakes(thing: int) -> frozenset[int]:
    """Return the things that share a name with one, itself among them: "cat" is a cat or a cat's face."""
    names = set(catalogue()[thing].names)
    return frozenset(index for index, other in enumerate(catalogue()) if names & set(other.names))


def named(name: str) -> frozenset[int]:
    """Return the things with a name; of a shape without a colour, those in all colours. Raises ValueError if there is none."""
    things = catalogue()
    found = {index for index, thing in enumerate(things) if name in thing.names or name == thing.shape}
    if not found:
        raise ValueError(f"nothing in the catalogue is called {name!r}")
    return frozenset(found)


def things_are_right(reading: Reading, wanted: Wanted) -> bool:
    """Whether a picture shows the things, in their relation, size and place, and no other that is not slight."""
    count = len(wanted.things)
    found = reading.things[:count]
    if len(found) < count:
        return False
    if len(reading.things) > count and reading.things[count].gain > _EXTRA * min(each.gain for each in found):
        return False
    return any(_fits(order, wanted) for order in permutations(found))


def _fits(found: Sequence[Found], wanted: Wanted) -> bool:
    if not all(each.thing in things for each, things in zip(found, wanted.things, strict=True)):
        return False
    if wanted.relation is not None:
        return _related(found[0], found[1], wanted.relation)
    return (wanted.size is None or SIZES[found[0].size] == wanted.size) and (
        wanted.place is None or place_of(found[0]) == wanted.place
    )


def _related(a: Found, b: Found, relation: str) -> bool:
    (ax, ay), (bx, by) = _middle(a), _middle(b)
    across, down = ax - bx, ay - by
    if relation == "inside":
        return a.size < b.size and max(abs(across), abs(down)) < SIDES[b.size] / 4
    amount = {"above": -down, "below": down, "left of": -across, "right of": across, BESIDE: abs(across)}[relation]
    return amount > 30 and amount > min(abs(across), abs(down))


def _middle(found: Found) -> tuple[float, float]:
    half = SIDES[found.size] / 2
    return found.x + half, found.y + half


def place_of(found: Found) -> str:
    """Return a thing's place: on each axis low or high in the quarter at that edge of the room that it has, else the middle."""
    room = CANVAS - SIDES[found.size]
    column, row = (0 if offset < room / 4 else 2 if room - offset < room / 4 else 1 for offset in (found.x, found.y))
    return PLACES[3 * row + column]
