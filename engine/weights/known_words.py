"""The words that a model knows: which things it draws, and which words of a prompt it has never seen."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from emoji import emoji_list, replace_emoji

from engine.errors import CheckpointError, first_line
from engine.weights.words import STOP_WORDS, is_large, is_little, nearest, singulars, swapped, words_in_other_letters, words_of

_NEGATIONS = ("without", "no", "not")

_NAMED = 8  # things that a warning names
_GUESSED = 3  # unknown words for which a warning names a known one: each takes milliseconds
_SHORTEST_GUESSED = 4
_LONGEST_GUESSED = 24  # letters; the longer, the slower
_UNSAID = "unsaid"  # the key of the file that is not a group
_COMPLETED = ("sceneries", "places", "sizes")
_DRAWN = ("things", "tags", "shapes", "colours", "sceneries")
_GROUND = re.compile(r"\b(on|against|background|backdrop|bg)\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False)  # the same wording may come twice
class _Phrase:
    """A known wording in a prompt, and what it may mean: (group, usual name)."""

    text: str
    meanings: frozenset[tuple[str, str]]
    is_plural: bool

    def means(self, *groups: str) -> bool:
        return any(group in groups for group, _ in self.meanings)


@dataclass(frozen=True)
class KnownWords:
    """What a model was trained to draw: groups such as "things", of usual names with all their wordings."""

    groups: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    unsaid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # a group -> what `complete` says if a prompt says none

    def names(self, group: str) -> tuple[str, ...]:
        """Return the usual names of a group, for people to choose from."""
        return tuple(self.groups[group])

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt that the model does not know, each once, in order and in lower case.

        Plurals, articles, other little words, numbers, and little words with a letter wrong count as known. An emoji counts as
        known if a word of its name is.
        """
        text = replace_emoji(prompt, " ")
        emojis = dict.fromkeys(str(found["emoji"]) for found in emoji_list(prompt))  # of thousands, a few differ
        unnamed = [each for each in emojis if not any(isinstance(part, _Phrase) for part in self._read(each))]
        return list(dict.fromkeys([*_unknown(self._read(text)), *words_in_other_letters(text), *unnamed]))

    def warnings(self, prompt: str, model: str) -> list[str]:
        """Return sentences about the words of a prompt that a model, called `model`, does not know or can't follow."""
        parts = list(self._read(prompt))
        numbers = self._large_numbers(parts)
        warnings = []
        things = self.names("things")
        some = ", ".join(things[:: max(1, len(things) // _NAMED)][:_NAMED])
        known = f"It draws {len(things)} things, such as {some}; its model card lists them."
        if unknown := [word for word in self.unknown_words(prompt) if word not in numbers]:
            guesses = {word: self._guess(word) for word in unknown[:_GUESSED]}
            words = " or ".join(f'"{word}"{guesses.get(word, "")}' for word in unknown)
            warnings.append(f"{model} does not know {words}. {known}")
        elif not any(isinstance(part, _Phrase) and part.means(*_DRAWN) for part in parts):
            warnings.append(f"{model} finds nothing to draw in this prompt. {known}")
        if numbers:
            warnings.append(f'{model} draws at most {self._most} of a kind, not "{numbers[0]}".')
        if colours := list(dict.fromkeys(colour.text for colour, _ in _coloured(parts))):
            words = " or ".join(f'"{colour}"' for colour in colours)
            warnings.append(f"{model} draws things in their own colours: it does not follow {words}.")
        warnings += [f'{model} does not understand "{word}": it may draw what follows.' for word in _NEGATIONS if word in parts]
        return warnings

    def _guess(self, word: str) -> str:
        """Return a question about the known word that is most like an unknown one, best one of a thing; empty if none is."""
        if len(word) > _LONGEST_GUESSED:
            return ""
        if len(word) < _SHORTEST_GUESSED:  # of which most words are a letter away
            close = sorted(swapped(word) & set(self._things))
        else:
            close = nearest(word, self._things) or nearest(word, self._vocabulary)
        return f' (did you mean "{close[0]}"?)' if close else ""

    def complete(self, prompt: str, variant: int = 0) -> str:
        """Return a prompt of one thing with what it leaves unsaid, in wordings that draw well: size, place, background.

        "can you draw a cat?" becomes "a medium cat in the centre on a white background". A prompt of several things only gets the
        background, if it has none, and the largest number in place of larger ones. Colours right before things are left out, as
        in "a green cat". Where the first unsaid part has several wordings, `variant` chooses one; consecutive numbers choose
        different ones.
        """
        parts = list(self._read(prompt))
        coloured = _coloured(parts)
        left_out = [colour for colour, _ in coloured]
        phrases = [part for part in parts if isinstance(part, _Phrase) and part not in left_out]
        subjects = [phrase for phrase in phrases if phrase.means("things", "shapes")]
        if not self.unsaid:
            return prompt
        if subjects and (numbers := self._large_numbers(parts)):
            fewer = re.sub(rf"\b(an? )?({'|'.join(numbers)})\b", self._most, prompt, flags=re.IGNORECASE)
            if fewer != prompt:
                return self.complete(fewer, variant)
        subjects = subjects or [phrase for phrase in phrases if phrase.means("tags")]
        if not subjects:
            return prompt
        for adjective, thing in coloured:
            prompt = re.sub(rf"\b{adjective.text}\s+(?={thing.text})", "", prompt, flags=re.IGNORECASE)
        colours = [phrase for phrase in phrases if phrase.means("colours") and phrase not in subjects]
        has_ground = bool(_GROUND.search(prompt))
        are_of_subjects = not has_ground and len(colours) == len(subjects) and all(each.means("shapes") for each in subjects)
        background, filled = self._said(phrases, "sceneries"), prompt
        if not background and len(colours) == 1 and has_ground:
            colour = colours.pop().text
            background = f"on {'an' if colour[0] in 'aeiou' else 'a'} {colour} background"
        elif not background and (not colours or are_of_subjects):
            taken = {meaning for colour in colours for meaning in colour.meanings}
            grounds = [ground for ground, meanings in self._grounds.items() if taken.isdisjoint(meanings)]
            grounds = grounds or list(self._grounds)
            background, variant = grounds[variant % len(grounds)], 0
            filled = f"{prompt.rstrip(' .!?')} {background}"
        is_one = len(subjects) == 1 and not subjects[0].is_plural and not subjects[0].means("shapes")
        if not is_one or colours or any(phrase.means("counts") for phrase in phrases):
            return filled
        size, place = self._said(phrases, "sizes"), self._said(phrases, "places")
        if not place:
            # Of a said size, the first place only: large things are drawn well in the centre, half as often elsewhere.
            places = self.unsaid["places"][: 1 if size else None]
            place, variant = places[variant % len(places)], 0
        size = size or self.unsaid["sizes"][variant % len(self.unsaid["sizes"])]
        return f"a {size} {subjects[0].text} {place} {background}"

    def _said(self, phrases: list[_Phrase], group: str) -> str:
        """Return the first wording of a group among phrases; in place of a usual name ("space") a fuller one ("in space")."""
        for phrase in phrases:
            names = [name for of, name in phrase.meanings if of == group]
            if names:
                others = self.groups[group][names[0]]
                return others[0] if phrase.text == names[0] and others and group == "sceneries" else phrase.text
        return ""

    def _large_numbers(self, parts: Iterable[_Phrase | str]) -> list[str]:
        """Return the numbers, each once, that are larger than the model draws, if it draws several of a kind."""
        words = dict.fromkeys(part if isinstance(part, str) else part.text for part in parts)
        return [word for word in words if is_large(word)] if self._most else []

    @property
    def _most(self) -> str:
        """The largest number of a kind that the model draws; empty if it draws only one."""
        return self.names("counts")[-1] if "counts" in self.groups else ""

    def _read(self, prompt: str) -> Iterator[_Phrase | str]:
        """Yield a prompt's known wordings, the longest at each place, and its other words."""
        words = list(words_of(prompt))
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                *before, last = words[at : at + length]
                forms = [form for form in singulars(last) if (*before, form) in self._wordings]
                if forms and (length > 1 or last not in STOP_WORDS):
                    text = " ".join(words[at : at + length])
                    # "dogs" is a tag, and the plural of a thing, which counts more.
                    found = [_Phrase(text, self._wordings[(*before, form)], form != last) for form in forms]
                    yield next((phrase for phrase in found if phrase.means("things", "shapes")), found[0])
                    at += length
                    break
            else:
                yield words[at]
                at += 1

    @cached_property
    def _wordings(self) -> Mapping[tuple[str, ...], frozenset[tuple[str, str]]]:
        meanings: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
        for group, names in self.groups.items():
            for name, wordings in names.items():
                for wording in (name, *wordings):
                    meanings[tuple(words_of(wording))].add((group, name))
        return {words: frozenset(each) for words, each in meanings.items()}

    @cached_property
    def _grounds(self) -> Mapping[str, frozenset[tuple[str, str]]]:
        """The backgrounds of prompts that have none, each with all that it means."""
        phrases = {
            ground: [each for each in self._read(ground) if isinstance(each, _Phrase)] for ground in self.unsaid["sceneries"]
        }
        return {ground: frozenset(meaning for each in own for meaning in each.meanings) for ground, own in phrases.items()}

    @cached_property
    def _vocabulary(self) -> list[str]:
        """All words of all wordings."""
        return sorted({word for wording in self._wordings for word in wording})

    @cached_property
    def _things(self) -> list[str]:
        """The words of the usual names of things."""
        return sorted({word for name in self.groups.get("things", ()) for word in words_of(name)})

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._wordings), default=0)


def read_known_words(path: Path) -> KnownWords:
    """Read a model's known_words.json: {group: {usual name: [other wordings]}}, and {"unsaid": {group: [wordings]}}.

    Raises CheckpointError.
    """
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))
        unsaid = {group: tuple(str(wording) for wording in wordings) for group, wordings in groups.pop(_UNSAID, {}).items()}
        if unsaid and not all(unsaid.get(group) for group in _COMPLETED):
            raise ValueError(f"{_UNSAID} needs wordings for each of {', '.join(_COMPLETED)}")
        return KnownWords(
            {
                group: {name: tuple(str(wording) for wording in wordings) for name, wordings in names.items()}
                for group, names in groups.items()
            },
            unsaid,
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} does not have groups of names with their wordings ({first_line(error)})") from error


def _coloured(parts: Sequence[_Phrase | str]) -> list[tuple[_Phrase, _Phrase]]:
    """Return each colour that stands right before a thing, which is no shape, and the thing."""
    pairs = ((before, each) for before, each in pairwise(parts) if isinstance(before, _Phrase) and isinstance(each, _Phrase))
    return [
        (before, each)
        for before, each in pairs
        if before.means("colours") and each.means("things", "tags") and not each.means("shapes")
    ]


def _unknown(parts: Iterable[_Phrase | str]) -> list[str]:
    """Return the words that belong to no known wording, and are no little words; each once."""
    return [word for word in dict.fromkeys(parts) if isinstance(word, str) and not is_little(word)]
