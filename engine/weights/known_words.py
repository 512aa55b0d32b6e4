"""The words that a model knows: which things it draws, and which words of a prompt it has never seen."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from engine.errors import CheckpointError, first_line
from engine.upstream import demojize

# Words that say nothing to draw, or that people put around what they say.
_LITTLE_WORDS = """
    a an the this that these those one some any no not my your his her its our their me i we you he she it they us
    them and or but with without of for from to by at as in on into onto off up down out over is are was be being been
    am do does did can could would will should may might must have has had there here where what which who how when
    why if so too very really just also only please thanks thank hi hello hey want like need see show give get make
    create generate draw paint render sketch design drawing painting picture image photo photograph illustration art
    sheet scene kind type piece set lot bit thing things background backdrop bg colour color coloured colored style
    look looks looking made plain simple full whole
"""
_STOP_WORDS = frozenset(_LITTLE_WORDS.split())
_LONG_ENOUGH = 5  # letters of a stop word of which one may be missing, doubled or wrong


@dataclass(frozen=True)
class KnownWords:
    """What a model was trained to draw: groups such as "things", of usual names with all their wordings."""

    groups: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def names(self, group: str) -> tuple[str, ...]:
        """Return the usual names of a group, for people to choose from."""
        return tuple(self.groups[group])

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt that the model does not know, each once, in order and in lower case.

        Plurals, articles, other little words, numbers, and little words with a letter wrong count as known. An emoji counts as
        its name.
        """
        words = list(_words(prompt))
        unknown: dict[str, None] = {}
        at = 0
        while at < len(words):
            length = self._known_length(words[at:])
            if not length:
                unknown[words[at]] = None
            at += max(1, length)
        return list(unknown)

    def _known_length(self, words: list[str]) -> int:
        """Return how many of the words at the beginning are a known wording, the longest; 0 if none is."""
        for length in range(min(self._longest, len(words)), 0, -1):
            *before, last = words[:length]
            if any((*before, form) in self._wordings for form in _singulars(last)):
                return length
        return int(_is_little(words[0]))

    @cached_property
    def _wordings(self) -> frozenset[tuple[str, ...]]:
        said = (wording for group in self.groups.values() for name, wordings in group.items() for wording in (name, *wordings))
        return frozenset(tuple(_words(wording)) for wording in said)

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._wordings), default=0)


def read_known_words(path: Path) -> KnownWords:
    """Read a model's known_words.json: {group: {usual name: [other wordings]}}. Raises CheckpointError."""
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))
        return KnownWords(
            {
                group: {name: tuple(str(wording) for wording in wordings) for name, wordings in names.items()}
                for group, names in groups.items()
            }
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} does not have groups of names with their wordings ({first_line(error)})") from error


def _words(text: str) -> Iterator[str]:
    """Yield the words of a text in lower case, without accents and marks; of an emoji, those of its name."""
    named: str = demojize(text.replace("’", "'"), delimiters=(" ", " "))
    plain = unicodedata.normalize("NFKD", named).encode("ascii", "ignore").decode().lower()
    for word in re.findall(r"[a-z0-9]+(?:'[a-z]+)*", plain):
        yield word.removesuffix("'s")


def _singulars(word: str) -> Iterator[str]:
    """Yield a word, and what its singular may be."""
    yield word
    if word.endswith("ies"):
        yield f"{word[:-3]}y"
    if word.endswith("es"):
        yield word[:-2]
    if word.endswith("s"):
        yield word[:-1]


def _is_little(word: str) -> bool:
    """Whether a word is a number or a stop word, or nearly: two letters swapped or, in long ones, one missing or doubled."""
    if word.isdigit() or word in _STOP_WORDS:
        return True
    swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    shorter = {word[:i] + word[i + 1 :] for i in range(len(word))}
    if len(word) > 2 and swapped & _STOP_WORDS:
        return True
    return len(word) >= _LONG_ENOUGH - 1 and any(
        len(stop) >= _LONG_ENOUGH and (stop in shorter or word in {stop[:i] + stop[i + 1 :] for i in range(len(stop))})
        for stop in _STOP_WORDS
    )
