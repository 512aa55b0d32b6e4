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
        ("🐱 🐈", ["face"]),
        ("crème brûlée", ["creme", "brulee"]),
        ("un chat rouge", ["un", "chat", "rouge"]),
        ("an ornithopter", ["ornithopter"]),
    ],
)
def test_unknown_words_are_told_once_and_in_order(prompt: str, unknown: list[str]) -> None:
    assert KNOWN.unknown_words(prompt) == unknown


COMPLETING = KnownWords(
    {
        "things": {"cat": ("kitten",), "dog": (), "cake": ("birthday cake",), "t-rex": ("dinosaur",)},
        "tags": {"cat": ("pet", "please"), "dog": ("pet",), "cake": ("candles",)},
        "shapes": {"circle": ("disc",)},
        "colours": {"red": ("crimson",), "blue": ()},
        "sceneries": {"space": ("in space", "in outer space")},
        "sizes": {"small": ("tiny",)},
        "places": {"top": ("at the top",)},
        "counts": {"two": ()},
    },
    {"sizes": "medium", "places": "in the centre", "sceneries": "on a white background"},
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
        ("a red cat", "a red cat"),
        ("a cat and a dog.", "a cat and a dog on a white background"),
        ("two cats", "two cats on a white background"),
        ("cats", "cats on a white background"),
        ("two cats in space", "two cats in space"),
        ("a red circle", "a red circle"),
        ("a circle", "a circle on a white background"),
        ("an ornithopter", "an ornithopter"),
        ("", ""),
    ],
)
def test_what_is_unsaid_is_said(prompt: str, completed: str) -> None:
    assert COMPLETING.complete(prompt) == completed
    assert KNOWN.complete(prompt) == prompt, "a list without it"


def test_the_file_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "known_words.json"
    path.write_text(json.dumps({"things": {"cat": ["kitten"], "dog": []}, "unsaid": {"sceneries": "on white"}}))
    words = read_known_words(path)
    assert words.names("things") == ("cat", "dog")
    assert words.unknown_words("a kitten and a mouse") == ["mouse"]
    assert words.unsaid == {"sceneries": "on white"}
    for content in ("<html>", "[]", '{"things": ["cat"]}', '{"things": {"cat": 1}}'):
        path.write_text(content)
        with pytest.raises(CheckpointError, match=r"known_words\.json"):
            read_known_words(path)
