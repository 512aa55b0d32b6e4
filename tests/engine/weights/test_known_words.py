"""Which words of a prompt a model does not know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import CheckpointError
from engine.weights.known_words import KnownWords, read_known_words

KNOWN = KnownWords(
    {
        "things": {
            "cat": ("kitten", "cats"),
            "hot air balloon": (),
            "knife": ("knives",),
            "cherry": (),
            "glass of wine": ("wine",),
        },
        "colours": {"red": ("crimson",)},
        "sceneries": {"space": ("in outer space",)},
        "relations": {"left of": ("to the left of",)},
    }
)


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a cat", []),
        ("", []),
        ("A CAT!", []),
        ("Two kittens, please.", ["two"]),
        ("3 cherries and knives", []),
        ("the cat's wine to the left of a crimson cat in outer space", []),
        ("a hot air balloon", []),
        ("hot air", ["hot", "air"]),
        ("a cat helicoptering, Helicoptering over Paris", ["helicoptering", "paris"]),
        ("teh cat wiht a red backgorund", []),
        ("a cat on a red backgroud", []),
        ("🐱 🐈", []),
        ("🐈 💨🇫🇷🐈", ["💨", "🇫🇷"]),
        ("猫 and a кот", ["猫", "кот"]),
        ("a few cats, don't", []),
        ("crème brûlée", ["creme", "brulee"]),
        ("un chat rouge", ["un", "chat", "rouge"]),
        ("an ornithopter", ["ornithopter"]),
    ],
)
def test_unknown_words_are_told_once_and_in_order(prompt: str, unknown: list[str]) -> None:
    assert KNOWN.unknown_words(prompt) == unknown


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a kittn", '"kittn" (did you mean "kitten"?)'),
        ("a chery and an ornithopter", '"chery" (did you mean "cherry"?) or "ornithopter"'),
        ("balon ornithopter ibis cerry", '"balon" (did you mean "balloon"?) or "ornithopter" or "ibis" or "cerry"'),
        ("a cta", '"cta" (did you mean "cat"?)'),
        ("a kat", '"kat"'),
        ("kitten" * 5, f'"{"kitten" * 5}"'),
        ("a mitten", '"mitten"'),
        ("a knive", '"knive" (did you mean "knife"?)'),
        ("🇫🇷", '"🇫🇷"'),
    ],
)
def test_a_warning_guesses_what_the_first_words_mean(prompt: str, told: str) -> None:
    (warning,) = KNOWN.warnings(prompt, "Tiny")
    assert warning.startswith(f"Tiny does not know {told}. It draws 5 things")


OWN_COLOURS = "Tiny draws things in their own colours: it does not follow {}."
AT_MOST = 'Tiny draws at most two of a kind, not "{}".'
NOTHING = (
    "Tiny finds nothing to draw in this prompt. It draws 4 things, such as cat, dog, cake, t-rex; its model card lists them."
)
NEGATION = 'Tiny does not understand "{}": it may draw what follows.'


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("two cats", []),
        ("5 cats", [AT_MOST.format("5")]),
        ("high five, five cats", [AT_MOST.format("five")]),
        ("many dogs", [AT_MOST.format("many")]),
        ("a dozen cats, ten dogs", [AT_MOST.format("dozen")]),
        ("a cat, 4k, 1920 by 1080, 007", []),
        ("a cat without a dog", [NEGATION.format("without")]),
        ("a red cat on a blue background", [OWN_COLOURS.format('"red"')]),
        ("a red cat, a crimson pet and a red dog", [OWN_COLOURS.format('"red" or "crimson"')]),
        ("a red circle, cat", []),
        ("lots of cats", [AT_MOST.format("lots")]),
        ("a cat, not a dog", [NEGATION.format("not")]),
        ("at sea in space", []),
        ("Hello!", [NOTHING]),
        ("...", [NOTHING]),
        ("No dog, four cats", [AT_MOST.format("four"), NEGATION.format("no")]),
    ],
)
def test_a_warning_tells_numbers_colours_and_negations(prompt: str, told: list[str]) -> None:
    warnings = COMPLETING.warnings(prompt, "Tiny")
    assert [warning for warning in warnings if "not know" not in warning] == told


COMPLETING = KnownWords(
    {
        "things": {"cat": ("kitten",), "dog": (), "cake": ("birthday cake",), "t-rex": ("dinosaur",)},
        "tags": {"cat": ("pet", "please", "high five", "five"), "dog": ("pet", "dogs"), "cake": ("candles",)},
        "shapes": {"circle": ("disc",)},
        "colours": {"red": ("crimson",), "blue": ()},
        "sceneries": {"space": ("in space", "in outer space")},
        "sizes": {"small": ("tiny",)},
        "places": {"top": ("at the top",), "left": ("on the left",)},
        "counts": {"two": ()},
    },
    {
        "sceneries": ("on a white background", "on a crimson background", "at sea"),
        "places": ("in the centre", "on the left"),
        "sizes": ("medium", "small"),
    },
)


@pytest.mark.parametrize(
    ("prompt", "completed"),
    [
        ("cat", "a medium cat in the centre on a white background"),
        ("Can you draw a kitten, please?", "a medium kitten in the centre on a white background"),
        ("a tiny cat", "a tiny cat in the centre on a white background"),
        ("a cat at the top", "a medium cat at the top on a white background"),
        ("cat on a blue background", "a medium cat in the centre on a blue background"),
        ("a cat in outer space!", "a medium cat in the centre in outer space"),
        ("space cat", "a medium cat in the centre in space"),
        ("my pet cat", "a medium cat in the centre on a white background"),
        ("a pet", "a medium pet in the centre on a white background"),
        ("a red cat", "a medium cat in the centre on a white background"),
        ("a red cat on red", "a medium cat in the centre on a red background"),
        ("a red cat and a blue dog", "a cat and a dog on a white background"),
        ("two Red  cats", "two cats on a white background"),
        ("a red circle and a red cat, on blue", "a red circle and a cat, on blue"),
        ("a cat, red background", "a medium cat in the centre on a red background"),
        ("a cat and a dog.", "a cat and a dog on a white background"),
        ("two cats", "two cats on a white background"),
        ("cats", "cats on a white background"),
        ("two cats in space", "two cats in space"),
        ("Five cats", "two cats on a white background"),
        ("a dozen cats in space and 12 dogs", "two cats in space and two dogs"),
        ("a cat at ten", "a cat at two on a white background"),
        ("five dogs", "two dogs on a white background"),
        ("dogs", "dogs on a white background"),
        ("high five", "a medium high five in the centre on a white background"),
        ("a red circle", "a red circle on a white background"),
        ("a red circle on blue", "a red circle on blue"),
        ("a red circle and a blue disc", "a red circle and a blue disc on a white background"),
        ("a red circle, blue background", "a red circle, blue background"),
        ("a circle above a red disc", "a circle above a red disc"),
        ("a red circle and a cat", "a red circle and a cat"),
        ("a red circle and a blue cat", "a red circle and a cat"),
        ("a circle", "a circle on a white background"),
        ("an ornithopter", "an ornithopter"),
        ("", ""),
    ],
)
def test_what_is_unsaid_is_said(prompt: str, completed: str) -> None:
    assert COMPLETING.complete(prompt) == completed
    assert KNOWN.complete(prompt) == prompt, "a list without it"


@pytest.mark.parametrize(
    ("prompt", "completed"),
    [
        ("a cat", ["a medium cat in the centre on a white", "medium cat in the centre on a crimson", "cat in the centre at sea"]),
        ("cats", ["cats on a white background", "cats on a crimson background", "cats at sea"]),
        ("a cat in space", ["a medium cat in the centre in space", "a medium cat on the left in space"]),
        ("a tiny cat in space", ["a tiny cat in the centre in space"]),
        ("a cat on the left in space", ["a medium cat on the left in space", "a small cat on the left in space"]),
        ("a tiny cat at the top in space", ["a tiny cat at the top in space"]),
        ("a circle", ["a circle on a white background", "a circle on a crimson background", "a circle at sea"]),
        ("a red circle", ["a red circle on a white background", "a red circle at sea"]),
        ("an ornithopter", ["an ornithopter"]),
    ],
)
def test_other_variants_say_the_first_unsaid_part_otherwise(prompt: str, completed: list[str]) -> None:
    for variant in range(2 * len(completed)):
        assert completed[variant % len(completed)] in COMPLETING.complete(prompt, variant)
    assert len({COMPLETING.complete(prompt, variant) for variant in range(12)}) == len(completed)


def test_a_word_of_many_letters_takes_little_memory() -> None:
    assert KNOWN.unknown_words("x" * 32_000) == ["x" * 32_000]


def test_the_file_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "known_words.json"
    unsaid = {"sceneries": ["on white", "at sea"], "places": ["at the top"], "sizes": ["small"]}
    path.write_text(json.dumps({"things": {"cat": ["kitten"], "dog": []}, "unsaid": unsaid}))
    words = read_known_words(path)
    assert words.names("things") == ("cat", "dog")
    assert words.unknown_words("a kitten and a mouse") == ["mouse"]
    assert words.complete("dog", 1) == "a small dog at the top at sea"
    for content in ("<html>", "[]", '{"things": ["cat"]}', '{"things": {"cat": 1}}', '{"unsaid": {"sizes": ["small"]}}'):
        path.write_text(content)
        with pytest.raises(CheckpointError, match=r"known_words\.json"):
            read_known_words(path)
