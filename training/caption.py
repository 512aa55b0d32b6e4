"""Prompts as people type them: descriptions of a scene in many wordings, often incomplete."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from training.palette import COLOUR_WORDS
from training.scene import Scene, Thing
from training.shapes import SHAPE_WORDS

SIZE_WORDS = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "medium-sized", "medium sized"),
    "large": ("large", "big", "huge"),
}
PLACE_WORDS = {
    "top left": ("in the top left corner", "top left", "at the top left", "in the upper left"),
    "top": ("at the top", "on top", "near the top", "top"),
    "top right": ("in the top right corner", "top right", "at the top right", "in the upper right"),
    "left": ("on the left", "on the left side", "at the left", "left"),
    "centre": ("in the centre", "in the center", "in the middle", "centered", "center"),
    "right": ("on the right", "on the right side", "at the right", "right"),
    "bottom left": ("in the bottom left corner", "bottom left", "at the bottom left", "in the lower left"),
    "bottom": ("at the bottom", "near the bottom", "bottom"),
    "bottom right": ("in the bottom right corner", "bottom right", "at the bottom right", "in the lower right"),
}
RELATION_WORDS = {
    "above": ("above", "on top of"),
    "below": ("below", "under", "beneath", "underneath"),
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "inside": ("inside", "in", "inside of", "within"),
}
CONVERSE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
COUNT_WORDS = {2: ("two", "2", "a pair of", "a couple of"), 3: ("three", "3")}
GROUNDS = ("background", "backdrop", "bg")
PREFIXES = ("a picture of", "an image of", "a drawing of", "draw", "please draw", "i want", "a photo of", "show me")
FILLERS = ("beautiful", "nice", "simple", "cool", "shiny", "flat", "cute", "bright", "perfect", "minimal", "pretty")
SUFFIXES = ("please", "digital art", "4k", "vector art", "minimalist", "high quality", "clipart", "in flat style")


@dataclass(frozen=True)
class Mentions:
    """The parts of a scene that its prompt mentions."""

    colour: bool = True
    background: bool = True
    size: bool = True
    place: bool = True


def random_mentions(rng: Random) -> Mentions:
    """Choose what a training prompt mentions; the rest of the scene is random to the model."""
    return Mentions(rng.random() < 0.93, rng.random() < 0.72, rng.random() < 0.45, rng.random() < 0.45)


def _article(words: str, rng: Random) -> str:
    chance = rng.random()
    if chance < 0.3:
        return words
    if chance < 0.36:
        return f"the {words}"
    if chance < 0.4:
        return f"one {words}"
    return ("an " if words[0] in "aeiou" else "a ") + words


def _noun(thing: Thing, mentions: Mentions, rng: Random, *, plural: bool = False, size: str = "") -> str:
    """Describe a thing without an article: size, filler, colour, shape."""
    parts = [size] if size else []
    if rng.random() < 0.05:
        parts.append(rng.choice(FILLERS) if rng.random() < 0.6 else "".join(rng.choices("abcdefghilmnorstu", k=5)))
    if mentions.colour:
        parts.append(rng.choice(COLOUR_WORDS[thing.colour]))
    parts.append(rng.choice(SHAPE_WORDS[thing.shape])[plural])
    return " ".join(parts)


def _with_background(subject: str, colour: str, rng: Random) -> str:
    colour = rng.choice(COLOUR_WORDS[colour])
    ground = rng.choice(GROUNDS)
    forms = (
        f"{subject} on {_article(f'{colour} {ground}', rng)}",
        f"{subject} on {_article(f'{colour} {ground}', rng)}",
        f"{subject} with {_article(f'{colour} {ground}', rng)}",
        f"{subject} against {_article(f'{colour} {ground}', rng)}",
        f"{subject}, {colour} {ground}",
        f"{subject} {colour} {ground}",
        f"{subject} on {colour}",
        f"{colour} {ground}, {subject}",
        f"on {_article(f'{colour} {ground}', rng)}, {subject}",
    )
    return rng.choice(forms)


def _subject(scene: Scene, mentions: Mentions, rng: Random) -> str:
    """Describe everything but the background."""
    size = rng.choice(SIZE_WORDS[scene.size]) if scene.size and mentions.size else ""
    first = scene.things[0]
    if scene.kind == "count":
        noun = _noun(first, mentions, rng, plural=True, size=size)
        return f"{rng.choice(COUNT_WORDS[len(scene.things)])} {noun}"
    if scene.kind == "two":
        assert scene.relation is not None
        a, b = (_article(_noun(thing, mentions, rng), rng) for thing in scene.things)
        chance = rng.random()
        if scene.relation == "inside" and chance < 0.3:
            return rng.choice((f"{b} with {a} inside", f"{b} containing {a}", f"{b} with {a} in it"))
        if scene.relation != "inside" and chance < 0.3:
            return f"{b} {rng.choice(RELATION_WORDS[CONVERSE[scene.relation]])} {a}"
        return f"{a} {rng.choice(RELATION_WORDS[scene.relation])} {b}"
    if mentions.colour and rng.random() < 0.06:
        colour = rng.choice(COLOUR_WORDS[first.colour])
        subject = _article(_noun(first, Mentions(colour=False), rng, size=size), rng) + f" that is {colour}"
    else:
        subject = _article(_noun(first, mentions, rng, size=size), rng)
    if scene.place and mentions.place:
        where = rng.choice(PLACE_WORDS[scene.place])
        chance = rng.random()
        return f"{where}, {subject}" if chance < 0.1 else f"{subject}, {where}" if chance < 0.2 else f"{subject} {where}"
    return subject


def describe(scene: Scene, mentions: Mentions, rng: Random) -> str:
    """Return a prompt for a scene, in a random wording."""
    text = _subject(scene, mentions, rng)
    if mentions.background:
        text = _with_background(text, scene.background, rng)
    if rng.random() < 0.12:
        text = f"{rng.choice(PREFIXES)} {text}"
    if rng.random() < 0.05:
        text = f"{text}, {rng.choice(SUFFIXES)}"
    if rng.random() < 0.08:
        text += rng.choice((".", "!", " ."))
    if rng.random() < 0.1:
        text = text.replace(",", "")
    return text
