"""English words as people type them: split, plurals, slips, and those that say nothing to draw."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from emoji import demojize  # as min-dalle does, but without loading torch: a front of --replicas has none

# Words that say nothing to draw, or that people put around what they say.
_LITTLE_WORDS = """
    a an the this that these those one some any no not my your his her its our their me i we you he she it they us
    them and or but with without of for from to by at as in on into onto off up down out over is are was be being been
    am do does did can could would will should may might must have has had there here where what which who how when
    why if so too very really just also only please thanks thank hi hello hey want like need see show give get make
    create generate draw paint render sketch design drawing painting picture image photo photograph illustration art
    sheet scene kind type piece set lot bit thing things background backdrop bg colour color coloured colored style
    look looks looking made plain simple full whole few never nothing don't
"""
STOP_WORDS = frozenset(_LITTLE_WORDS.split())
_LONGEST_STOP_WORD = max(map(len, STOP_WORDS))
_LARGE_NUMBERS = "many several lots four five six seven eight nine ten eleven twelve dozen twenty hundred thousand"
_NUMBERS = frozenset(_LARGE_NUMBERS.split())
_LONG_ENOUGH = 5  # letters of a stop word of which one may be missing, doubled or wrong
_ALIKE = 0.8  # how alike two words must be, as difflib measures it


def words_of(text: str) -> Iterator[str]:
    """Yield the words of a text in lower case, without accents and marks; of an emoji, those of its name."""
    named = demojize(text.replace("’", "'"), delimiters=(" ", " "))
    plain = unicodedata.normalize("NFKD", named).encode("ascii", "ignore").decode().lower()
    for word in re.findall(r"[a-z0-9]+(?:'[a-z]+)*", plain):
        yield word.removesuffix("'s")


def words_in_other_letters(text: str) -> list[str]:
    """Return the words of which `words_of` sees nothing, such as those in Chinese or Cyrillic letters."""
    return [word for word in re.findall(r"[^\W\d_]+", text) if not any(words_of(word))]


def singulars(word: str) -> Iterator[str]:
    """Yield a word, and what its singular may be."""
    yield word
    if word.endswith("ies"):
        yield f"{word[:-3]}y"
    if word.endswith("es"):
        yield word[:-2]
    if word.endswith("s"):
        yield word[:-1]


def swapped(word: str) -> set[str]:
    """Return a word with two letters that follow each other swapped, in all ways."""
    return {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """Return the known word that is most like another, if one is: people seldom mistype the first letter, or add two."""
    likely = [each for each in known if each[0] == word[0] and -2 < len(each) - len(word) < 3 and each != f"{word}s"]
    return get_close_matches(word, likely, 1, _ALIKE)


def is_large(word: str) -> bool:
    """Whether a word is a number above three that people count things with."""
    return word in _NUMBERS or (word.isdigit() and word[0] != "0" and len(word) < 4 and int(word) > 3)


def is_little(word: str) -> bool:
    """Whether a word is a number or a stop word, or nearly: two letters swapped or, in long ones, one missing or doubled."""
    if word.isdigit() or word in STOP_WORDS:
        return True
    if len(word) > _LONGEST_STOP_WORD + 1:
        return False  # without this, a word of many thousand letters takes gigabytes
    shorter = {word[:i] + word[i + 1 :] for i in range(len(word))}
    if len(word) > 2 and swapped(word) & STOP_WORDS:
        return True
    return len(word) >= _LONG_ENOUGH - 1 and any(
        len(stop) >= _LONG_ENOUGH and (stop in shorter or word in {stop[:i] + stop[i + 1 :] for i in range(len(stop))})
        for stop in STOP_WORDS
    )
