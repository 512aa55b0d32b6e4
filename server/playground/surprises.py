"""Random prompts of what a model knows, for who can't think of one."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

_COUNT = 40  # prompts that the page gets at a time


def surprises(known: Mapping[str, Mapping[str, tuple[str, ...]]], rng: Random) -> list[str]:
    """Return random prompts of one thing or two, from the groups of words that a model knows; none without any."""
    if not known:
        return []
    things = tuple(known["things"])
    sceneries = [wordings[0] for wordings in known["sceneries"].values() if wordings]
    grounds = [*sceneries, *(f"on {_article(colour)} background" for colour in known["colours"]), ""]

    def prompt() -> str:
        first, second = rng.sample(things, 2)
        pair = f"{_article(first)} {rng.choice(('next to', 'above'))} {_article(second)}"
        subject = _article(first) if rng.random() < 0.8 else pair
        return f"{subject} {rng.choice(grounds)}".strip()

    return [prompt() for _ in range(_COUNT)]


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"
