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


def test_the_file_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "known_words.json"
    path.write_text(json.dumps({"things": {"cat": ["kitten"], "dog": []}}))
    words = read_known_words(path)
    assert words.names("things") == ("cat", "dog")
    assert words.unknown_words("a kitten and a mouse") == ["mouse"]
    for content in ("<html>", "[]", '{"things": ["cat"]}', '{"things": {"cat": 1}}'):
        path.write_text(content)
        with pytest.raises(CheckpointError, match=r"known_words\.json"):
            read_known_words(path)
