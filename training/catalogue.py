"""The things that Tiny draws, and their names: 1,102 pictures of the data set, and 8 shapes in 12 colours."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from training.palette import COLOUR_NAMES, COLOUR_WORDS
from training.paths import DATA
from training.shapes import SHAPE_NAMES, SHAPE_WORDS

ARCHIVE = DATA / "emoji.zip"
SHAPE_GROUP = -1

# Tags that say something else in a prompt: a colour, a place, a scenery, a count.
_NO_TAGS = {word for words in COLOUR_WORDS.values() for word in words} | {
    "background", "left", "right", "top", "bottom", "inside", "above", "below", "small", "large", "big",
    "grass", "sea", "night", "snow", "beach", "desert", "space", "sunset", "forest", "city", "room",
    "no", "way", "a", "of", "emoji", "colour", "color", "one", "two", "three", "face",
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """Something that can be drawn. Its index in the catalogue is that of its picture."""

    names: tuple[str, ...]  # the first is the usual one
    plurals: Mapping[str, str]
    group: int  # Unicode's group of emoji, or `SHAPE_GROUP`
    is_trained: bool = True  # False: too much like another thing, or of little use
    tags: Mapping[str, float] = field(default_factory=dict)  # looser words, with 1 / the number of things that share each
    emoji: str = ""
    shape: str | None = None
    colour: str | None = None

    def plural(self, name: str) -> str:
        """Return the plural of one of its names or tags."""
        return self.plurals.get(name, name + "s")


@lru_cache(maxsize=1)
def catalogue() -> tuple[Thing, ...]:
    """Return all things: the pictures in the order of the archive, then each shape in each colour."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        rows = json.loads(archive.read("names.json"))
    aliases = json.loads((DATA / "aliases.json").read_text(encoding="utf-8"))
    left_out = set((DATA / "left_out.txt").read_text(encoding="utf-8").splitlines())
    pictures = [_picture(row, aliases.get(row["names"][0], []), row["names"][0] not in left_out) for row in rows]
    return (*pictures, *(_shape(shape, colour) for shape in SHAPE_NAMES for colour in COLOUR_NAMES))


def trained_indices() -> list[int]:
    """Return the indices of the things that training paints."""
    return [index for index, thing in enumerate(catalogue()) if thing.is_trained]


def _picture(row: dict[str, Any], aliases: list[str], is_trained: bool) -> Thing:
    ends = ("x", "s", "sh", "ch")
    plurals = {alias: alias + ("es" if alias.endswith(ends) else "s") for alias in aliases} | row["plural"]
    tags = {tag: 1 / count for tag, count in row["tags"] if tag not in _NO_TAGS and not set(tag.split()) & set(COLOUR_NAMES)}
    names = (*row["names"], *(alias for alias in aliases if alias not in row["names"]))
    return Thing(names, plurals, row["group"], is_trained, tags, row["emoji"])


def _shape(shape: str, colour: str) -> Thing:
    names = tuple(f"{word} {singular}" for singular, _ in SHAPE_WORDS[shape] for word in COLOUR_WORDS[colour])
    plurals = {f"{word} {one}": f"{word} {many}" for one, many in SHAPE_WORDS[shape] for word in COLOUR_WORDS[colour]}
    return Thing(names, plurals, SHAPE_GROUP, shape=shape, colour=colour)
