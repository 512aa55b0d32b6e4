"""Prompts as people type them: what a scene shows, in many wordings, much of it left unsaid."""

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
class Said:
    """Hold which parts of a scene its prompt names."""

    colour: bool = True
    background: bool = True
    size: bool = True
    place: bool = True


def random_said(rng: Random) -> Said:
    """Draw what a training prompt names; the rest of the scene is then chance to the model."""
    return Said(rng.random() < 0.93, rng.random() < 0.72, rng.random() < 0.45, rng.random() < 0.45)


def _article(words: str, rng: Random) -> str:
    chance = rng.random()
    if chance < 0.3:
        return words
    if chance < 0.36:
        return f"the {words}"
    if chance < 0.4:
        return f"one {words}"
    return ("an " if words[0] in "aeiou" else "a ") + words


def _noun(thing: Thing, said: Said, rng: Random, *, plural: bool = False, plain: bool = False, size: str = "") -> str:
    """Name a thing without an article: size, filler, colour, shape."""
    pick = (lambda words: words[0]) if plain else rng.choice
    parts = [size] if size else []
    if not plain and rng.random() < 0.05:
        parts.append(rng.choice(FILLERS) if rng.random() < 0.6 else "".join(rng.choices("abcdefghilmnorstu", k=5)))
    if said.colour:
        parts.append(pick(COLOUR_WORDS[thing.colour]))
    parts.append(pick(SHAPE_WORDS[thing.shape])[plural])
    return " ".join(parts)


def _with_background(subject: str, colour: str, rng: Random, plain: bool) -> str:
    if plain:
        return f"{subject} on a {colour} background"
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


def _subject(scene: Scene, said: Said, rng: Random, plain: bool) -> str:
    """Say everything but the background."""
    pick = (lambda words: words[0]) if plain else rng.choice
    size = pick(SIZE_WORDS[scene.size]) if scene.size and said.size else ""
    first = scene.things[0]
    if scene.kind == "count":
        noun = _noun(first, said, rng, plural=True, plain=plain, size=size)
        return f"{pick(COUNT_WORDS[len(scene.things)])} {noun}"
    name = _article if not plain else (lambda words, _: ("an " if words[0] in "aeiou" else "a ") + words)
    if scene.kind == "two":
        assert scene.relation is not None
        a, b = (name(_noun(thing, said, rng, plain=plain), rng) for thing in scene.things)
        chance = 1.0 if plain else rng.random()
        if scene.relation == "inside" and chance < 0.3:
            return rng.choice((f"{b} with {a} inside", f"{b} containing {a}", f"{b} with {a} in it"))
        if scene.relation != "inside" and chance < 0.3:
            return f"{b} {pick(RELATION_WORDS[CONVERSE[scene.relation]])} {a}"
        return f"{a} {pick(RELATION_WORDS[scene.relation])} {b}"
    if not plain and said.colour and rng.random() < 0.06:
        colour = rng.choice(COLOUR_WORDS[first.colour])
        subject = name(_noun(first, Said(colour=False), rng, size=size), rng) + f" that is {colour}"
    else:
        subject = name(_noun(first, said, rng, plain=plain, size=size), rng)
    if scene.place and said.place:
        where = pick(PLACE_WORDS[scene.place])
        chance = 1.0 if plain else rng.random()
        return f"{where}, {subject}" if chance < 0.1 else f"{subject}, {where}" if chance < 0.2 else f"{subject} {where}"
    return subject


def describe(scene: Scene, said: Said, rng: Random, *, plain: bool = False) -> str:
    """Write a prompt for a scene; `plain` takes the first word for everything and adds nothing."""
    text = _subject(scene, said, rng, plain)
    if said.background:
        text = _with_background(text, scene.background, rng, plain)
    if plain:
        return text
    if rng.random() < 0.12:
        text = f"{rng.choice(PREFIXES)} {text}"
    if rng.random() < 0.05:
        text = f"{text}, {rng.choice(SUFFIXES)}"
    if rng.random() < 0.08:
        text += rng.choice((".", "!", " ."))
    if rng.random() < 0.1:
        text = text.replace(",", "")
    return text
