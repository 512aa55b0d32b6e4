"""The list of what Tiny says that it draws."""

from __future__ import annotations

import json
from pathlib import Path

from engine.weights.known_words import read_known_words
from training.catalogue import catalogue, trained_indices
from training.evaluate import typed_trials
from training.judge import named
from training.known import write
from training.scenery import SCENERY_NAMES


def test_the_list_has_what_is_right_half_the_time(tmp_path: Path) -> None:
    cat = min(named("black cat"))
    things = dict.fromkeys(trained_indices(), 1.0) | {cat: 0.4, min(named("owl")): 0.5}
    write(tmp_path, things, dict.fromkeys(SCENERY_NAMES, 1.0) | {"city": 0.2})
    words = read_known_words(tmp_path / "known_words.json")
    assert "owl" in words.names("things") and "black cat" not in words.names("things")
    assert words.names("shapes")[0] == "circle" and "city" not in words.names("sceneries")
    assert words.unknown_words("an owl helicoptering in the city") == ["helicoptering", "city"]
    assert len(json.loads((tmp_path / "known_words.json").read_text())["things"]) == len(trained_indices()) - 96 - 1


def test_the_words_typed_by_hand_are_known(tmp_path: Path) -> None:
    """But for a few that say nothing of what is drawn."""
    write(tmp_path, dict.fromkeys(trained_indices(), 1.0), dict.fromkeys(SCENERY_NAMES, 1.0))
    words = read_known_words(tmp_path / "known_words.json")
    unknown = {trial.prompt: found for trial in typed_trials() if (found := words.unknown_words(trial.prompt))}
    assert len(unknown) <= 25, unknown
    for index in trained_indices():
        for name in catalogue()[index].names:
            assert words.unknown_words(f"three {catalogue()[index].plural(name)}") == [], name
