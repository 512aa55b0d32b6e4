"""Random prompts for the page."""

from __future__ import annotations

from random import Random

from engine.weights.known_words import read_known_words
from server.playground.surprises import surprises
from tests.server.playground.test_routes import ROOT


def test_surprises_are_of_what_the_model_knows() -> None:
    known = read_known_words(ROOT / "models" / "tiny" / "known_words.json")
    prompts = surprises(known.groups, Random(1))
    assert len(set(prompts)) > 30 and not any(known.unknown_words(prompt) for prompt in prompts)
    assert any(" next to " in prompt for prompt in prompts) and any("background" in prompt for prompt in prompts)
    assert not any(" a e" in prompt or prompt.endswith(" ") for prompt in prompts)


def test_a_model_that_draws_anything_has_none() -> None:
    assert surprises({}, Random(1)) == []
