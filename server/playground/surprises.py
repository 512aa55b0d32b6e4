"""Random prompts of what a model knows, for who can't think of one."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.weights.known_words import KnownWords

_COUNT = 40  # prompts that the page gets at a time


def surprises(known: KnownWords | None, rng: Random) -> list[str]:
    """Return random prompts of one thing or two; none without a list of what the model knows."""
    if known is None:
        return []
    sceneries = [wordings[0] for wordings in known.groups["sceneries"].values() if wordings]
    grounds = [*sceneries, *(f"on {_article(colour)} background" for colour in known.names("colours")), ""]

    def prompt() -> str:
        first, second = rng.sample(known.names("things"), 2)
        pair = f"{_article(first)} {rng.choice(('next to', 'above'))} {_article(second)}"
        subject = _article(first) if rng.random() < 0.8 else pair
        return f"{subject} {rng.choice(grounds)}".strip()

    return [prompt() for _ in range(_COUNT)]


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"
