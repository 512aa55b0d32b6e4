"""Comparison of a reading with the scene that the prompt describes."""

from __future__ import annotations

from training.reader import Found, Reading
from training.scene import PLACES, RADII, Scene
from training.shapes import CANVAS

_NEAR_EDGE = 11.0  # pixels from the edge to a thing "at the left": the mean of the painted images


def has_look(found: Found, shape: str, colour: str) -> bool:
    """Whether an object has a shape and a colour."""
    return found.shape == shape and found.colour == colour


def subject_is_right(reading: Reading, scene: Scene) -> bool:
    """Whether the image shows exactly the scene's objects, in the right relation, on its background."""
    objects = reading.objects
    if reading.background != scene.background or len(objects) != len(scene.things):
        return False
    if scene.kind != "two":
        return all(has_look(found, scene.things[0].shape, scene.things[0].colour) for found in objects)
    first, second = scene.things
    return any(
        has_look(a, first.shape, first.colour) and has_look(b, second.shape, second.colour) and _related(a, b, scene.relation)
        for a, b in (objects, objects[::-1])
    )


def _related(a: Found, b: Found, relation: str | None) -> bool:
    across, down = a.cx - b.cx, a.cy - b.cy
    if relation == "inside":
        return a.radius < b.radius and max(abs(across), abs(down)) < b.radius / 2
    amount = {"above": -down, "below": down, "left of": -across, "right of": across}[str(relation)]
    return amount > 30 and amount > min(abs(across), abs(down))


def size_of(found: Found) -> str:
    """Return an object's size."""
    (_, small), (medium_low, medium), (large, _) = RADII.values()
    return "small" if found.radius < (small + medium_low) / 2 else "medium" if found.radius < (medium + large) / 2 else "large"


def place_of(found: Found) -> str:
    """Return an object's place: on each axis low, middle or high, whichever is nearest."""
    slack = (CANVAS / 2 - found.radius - _NEAR_EDGE) / 2
    column, row = (1 + int(c > CANVAS / 2 + slack) - int(c < CANVAS / 2 - slack) for c in (found.cx, found.cy))
    return PLACES[3 * row + column]


def overlaps_of(reading: Reading, scene: Scene) -> list[float]:
    """Return the overlap with its shape's template of each of the scene's objects that was found."""
    found = list(reading.objects)
    overlaps = []
    for thing in scene.things:
        same = [each for each in found if each.colour == thing.colour]
        if same:
            nearest = max(same, key=lambda each: each.overlaps[thing.shape])
            overlaps.append(nearest.overlaps[thing.shape])
            found.remove(nearest)
    return overlaps
