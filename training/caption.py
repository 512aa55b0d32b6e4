"""Captions as people type prompts: a scene in many wordings, often incomplete."""

from __future__ import annotations

from random import Random

from training.catalogue import Thing, catalogue
from training.palette import COLOUR_NAMES, COLOUR_WORDS
from training.scene import Said, Scene
from training.scenery import SCENERY_WORDS
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
    "above": ("above", "on top of", "over", "on", "sitting on", "standing on"),
    "below": ("below", "under", "beneath", "underneath"),
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "inside": ("inside", "in", "inside of", "within"),
}
BESIDE_WORDS = ("and", "and", "next to", "beside", "with", "near", "by")  # on either side
CONVERSE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
COUNT_WORDS = {2: ("two", "two", "2", "a pair of", "a couple of"), 3: ("three", "three", "3")}
GROUNDS = ("background", "backdrop", "bg")
PREFIXES = (
    "a picture of", "an image of", "a drawing of", "draw", "draw me", "please draw", "i want", "a photo of", "show me",
    "can you draw", "could you draw", "paint", "make", "generate", "here is", "there is", "an emoji of", "i would like",
)  # fmt: skip
FILLERS = ("beautiful", "nice", "simple", "cool", "shiny", "flat", "cute", "bright", "perfect", "minimal", "pretty")
SUFFIXES = ("please", "digital art", "4k", "vector art", "minimalist", "high quality", "clipart", "in flat style", "emoji")
_TYPED_WRONG = ("with", "the", "and", "background", "inside", "above", "below", "next", "left", "right", "picture", "under")


def describe(scene: Scene, said: Said, rng: Random, *, loosely: bool = True) -> str:
    """Return a caption of a scene, in a random wording; `loosely` with tags and emoji in place of some names."""
    text = _subject(scene, said, rng, loosely)
    if said.background:
        text = _with_background(text, scene.background, rng)
    if rng.random() < 0.15:
        text = f"{rng.choice(PREFIXES)} {text}"
    if rng.random() < 0.04:
        text = f"{text}, {rng.choice(SUFFIXES)}"
    if rng.random() < 0.05:
        text += rng.choice((".", "!", "?"))
    return _with_a_typo(text, rng) if rng.random() < 0.02 else text


def article(words: str, rng: Random) -> str:
    """Return words with an article, or without."""
    chance = rng.random()
    if chance < 0.3:
        return words
    if chance < 0.4:
        return f"the {words}" if chance < 0.36 else f"one {words}"
    return ("an " if words[0] in "aeiou" else "a ") + words


def noun(thing: Thing, rng: Random, *, plural: bool = False, loosely: bool = True) -> str:
    """Return a thing's name or, `loosely` and more seldom, a tag of it or its emoji, or a shape without its colour."""
    chance = rng.random() if loosely else 1.0
    if thing.shape is not None:
        word = rng.choice(thing.names) if chance > 0.05 else rng.choice(SHAPE_WORDS[thing.shape])[0]
    elif chance < 0.03:
        return thing.emoji
    elif chance < 0.22 and thing.tags:
        word = rng.choices(list(thing.tags), list(thing.tags.values()))[0]
    else:
        word = rng.choice(thing.names)
    return thing.plural(word) if plural else word


def _subject(scene: Scene, said: Said, rng: Random, loosely: bool) -> str:
    """Describe everything but the background."""
    things = [catalogue()[placed.thing] for placed in scene.placed]
    if scene.kind == "alike":
        return f"{rng.choice(COUNT_WORDS[len(things)])} {noun(things[0], rng, plural=True, loosely=loosely)}"
    nouns = [_filled(noun(thing, rng, loosely=loosely), rng) for thing in things]
    if scene.kind == "one":
        return _one(nouns[0], scene, said, rng)
    said_things = [article(words, rng) for words in nouns]
    if scene.kind == "three":
        first, second, third = said_things
        return rng.choice((f"{first}, {second} and {third}", f"{first}, {second}, {third}", f"{first} and {second} and {third}"))
    first, second = said_things
    if scene.kind == "inside":
        if rng.random() < 0.25:
            return f"{first} with {second} {rng.choice(('inside', 'in it'))}"
        return f"{second} {rng.choice(RELATION_WORDS['inside'])} {first}"
    assert scene.relation is not None
    if not said.side:
        return f"{first} {rng.choice(BESIDE_WORDS)} {second}"
    if rng.random() < (0.3 if scene.relation in ("left of", "right of") else 0.55):
        return f"{second} {rng.choice(RELATION_WORDS[CONVERSE[scene.relation]])} {first}"
    return f"{first} {rng.choice(RELATION_WORDS[scene.relation])} {second}"


def _one(words: str, scene: Scene, said: Said, rng: Random) -> str:
    if said.size and scene.size:
        words = f"{rng.choice(SIZE_WORDS[scene.size])} {words}"
    text = article(words, rng)
    if not said.place or not scene.place:
        return text
    where, chance = rng.choice(PLACE_WORDS[scene.place]), rng.random()
    return f"{where}, {text}" if chance < 0.1 else f"{text}, {where}" if chance < 0.2 else f"{text} {where}"


def _filled(words: str, rng: Random) -> str:
    """Return words, some of them with an adjective that means nothing here."""
    return f"{rng.choice(FILLERS)} {words}" if rng.random() < 0.05 else words


def _with_background(text: str, background: str, rng: Random) -> str:
    if background not in COLOUR_NAMES:
        where, chance = rng.choice(SCENERY_WORDS[background]), rng.random()
        return f"{text} {where}" if chance < 0.8 else f"{text}, {where}" if chance < 0.95 else f"{where}, {text}"
    colour = rng.choice(COLOUR_WORDS[background])
    ground = article(f"{colour} {rng.choice(GROUNDS)}", rng)
    form = rng.choice(
        (
            "{text} on {ground}",
            "{text} on {ground}",
            "{text} with {ground}",
            "{text} against {ground}",
            "{text} in front of {ground}",
            "{text}, {ground}",
            "{text} on {colour}",
            "{ground}, {text}",
        )
    )
    return form.format(text=text, ground=ground, colour=colour)


def _with_a_typo(text: str, rng: Random) -> str:
    """Swap two letters of a word between things, or drop one."""
    words = text.split(" ")
    places = [place for place, word in enumerate(words) if word in _TYPED_WRONG]
    if not places:
        return text
    place = rng.choice(places)
    word, cut = words[place], rng.randrange(1, len(words[place]) - 1)
    words[place] = word[:cut] + (word[cut + 1] + word[cut] + word[cut + 2 :] if rng.random() < 0.6 else word[cut + 1 :])
    return " ".join(words)
