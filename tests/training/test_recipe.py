"""The training data: painted scenes can be described, encoded and read back."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest

from engine.weights.tokenizer import load_tokenizer
from training.caption import COUNT_WORDS, PLACE_WORDS, RELATION_WORDS, SIZE_WORDS, Mentions, describe, random_mentions
from training.codebook import MASK_COUNT, TOKEN_COUNT, Codebook, learn, token_parts
from training.evaluate import trials
from training.judge import overlaps_of, place_of, size_of, subject_is_right
from training.painting import paint
from training.palette import COLOUR_NAMES, COLOUR_WORDS
from training.patches import split
from training.reader import read
from training.scene import PLACES, SIZES, is_held_out, one_thing, random_scene, several_things, two_things
from training.shapes import SHAPE_NAMES, SHAPE_WORDS
from training.vocabulary import write


@pytest.fixture(scope="module")
def codebook() -> Codebook:
    return Codebook(learn(image_count=150, iterations=5, seed=1))


def test_there_are_enough_shapes_colours_sizes_and_places() -> None:
    assert (len(SHAPE_NAMES), len(COLOUR_NAMES), len(SIZES), len(PLACES)) == (8, 12, 3, 9)


def test_the_reader_recognizes_painted_scenes() -> None:
    rng = Random(4)
    for _ in range(60):
        scene = random_scene(rng)
        reading = read(paint(scene))
        assert subject_is_right(reading, scene), scene
        assert min(overlaps_of(reading, scene)) > 0.93
        if scene.kind == "one":
            assert (size_of(reading.objects[0]), place_of(reading.objects[0])) == (scene.size, scene.place)


def test_the_judge_recognizes_every_kind_of_mistake() -> None:
    rng = Random(1)
    scene = two_things(rng, ("circle", "red"), ("square", "green"), "above", "white")
    mistakes = [
        two_things(rng, ("circle", "red"), ("square", "green"), "below", "white"),
        two_things(rng, ("circle", "blue"), ("square", "green"), "above", "white"),
        two_things(rng, ("star", "red"), ("square", "green"), "above", "white"),
        two_things(rng, ("circle", "red"), ("square", "green"), "above", "black"),
        one_thing(rng, "circle", "red", "white", "medium", "top"),
    ]
    assert subject_is_right(read(paint(scene)), scene)
    for mistake in mistakes:
        assert not subject_is_right(read(paint(mistake)), scene), mistake
    small = read(paint(one_thing(rng, "ring", "red", "white", "small", "left"))).objects[0]
    assert (size_of(small), place_of(small)) == ("small", "left")


def test_one_combination_in_ten_is_held_out_and_never_painted() -> None:
    triples = [t for t in product(SHAPE_NAMES, COLOUR_NAMES, COLOUR_NAMES) if t[1] != t[2]]
    assert 0.07 < sum(is_held_out(*t) for t in triples) / len(triples) < 0.13
    rng = Random(0)
    for _ in range(3000):
        scene = random_scene(rng)
        assert not any(is_held_out(thing.shape, thing.colour, scene.background) for thing in scene.things)


def test_the_evaluation_has_seen_and_unseen_objects_pairs_and_counts() -> None:
    prompts = list(trials(600, 1))
    assert Counter(trial.group for trial in prompts) == {"seen": 180, "unseen": 180, "two": 150, "count": 90}
    for trial in prompts:
        if trial.group in ("seen", "unseen"):
            thing = trial.scene.things[0]
            assert is_held_out(thing.shape, thing.colour, trial.scene.background) == (trial.group == "unseen")


def any_of(*words: str) -> str:
    return rf"\b({'|'.join(words)})\b"


STAR, RING, SQUARE = (any_of(*(singular for singular, _ in SHAPE_WORDS[shape])) for shape in ("star", "ring", "square"))


def test_prompts_mention_everything_in_the_scene() -> None:
    rng = Random(2)
    groups = SIZE_WORDS["small"], COLOUR_WORDS["green"], PLACE_WORDS["top"], COLOUR_WORDS["blue"]
    for _ in range(300):
        prompt = describe(one_thing(rng, "star", "green", "blue", "small", "top"), Mentions(), rng)
        assert all(re.search(words, prompt) for words in (STAR, *(any_of(*group) for group in groups))), prompt
        prompt = describe(several_things(rng, "ring", "pink", "white", 2, "large"), Mentions(), rng)
        groups_of_two = COUNT_WORDS[2], SIZE_WORDS["large"], COLOUR_WORDS["pink"], ("rings", "donuts", "hoops")
        assert re.search(".*".join(any_of(*group) for group in groups_of_two), prompt), prompt


@pytest.mark.parametrize(("relation", "converse"), [("above", "below"), ("right of", "left of")])
def test_prompts_state_the_relation_in_the_right_direction(relation: str, converse: str) -> None:
    rng = Random(2)
    forward = re.compile(f"{RING}.*{any_of(*RELATION_WORDS[relation])}.*{SQUARE}")
    backward = re.compile(f"{SQUARE}.*{any_of(*RELATION_WORDS[converse])}.*{RING}")
    found = Counter[str]()
    for _ in range(300):
        scene = two_things(rng, ("ring", "pink"), ("square", "black"), relation, "white")
        prompt = describe(scene, Mentions(), rng)
        is_forward, is_backward = bool(forward.search(prompt)), bool(backward.search(prompt))
        assert is_forward != is_backward, prompt
        found["forward" if is_forward else "backward"] += 1
    assert min(found["forward"], found["backward"]) > 30


def test_prompts_mention_nothing_else() -> None:
    rng = Random(3)
    for _ in range(200):
        scene = one_thing(rng, "star", "green", "red", "small", "left")
        prompt = describe(scene, Mentions(colour=False, background=False, size=False, place=False), rng)
        assert not {"green", "emerald", "red", "crimson", "small", "left"} & set(prompt.split())


def test_encoded_images_keep_their_colours_and_edges(codebook: Codebook) -> None:
    first, second, mask = (part.numpy() for part in token_parts())
    masks = np.concatenate([codebook.masks, np.zeros((1, 256), np.float32)])
    assert len(first) == TOKEN_COUNT
    rng = Random(6)
    for _ in range(30):
        image = paint(random_scene(rng))
        tokens, patches = codebook.encode(image), split(image)
        assert 0 <= tokens.min() <= tokens.max() < TOKEN_COUNT
        assert (first[tokens] == patches.first).all()
        assert (second[tokens] == patches.second).all()
        assert ((mask[tokens] == MASK_COUNT) == (patches.first == patches.second)).all()
        errors = np.abs(masks[mask[tokens[patches.edges]]] - patches.masks).mean()
        assert errors < 0.2


def test_the_vocabulary_spells_any_word(tmp_path: Path) -> None:
    write(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    unknown = tokenizer.token_from_subword["<unk>"]
    rng = Random(1)
    for _ in range(50):
        prompt = describe(random_scene(rng), random_mentions(rng), rng)
        assert unknown not in tokenizer.tokenize(prompt + " Qwyxz-{42}!")
    assert len(tokenizer.tokenize("a red circle on a blue background")) <= 12
