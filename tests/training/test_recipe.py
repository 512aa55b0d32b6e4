"""Hold the recipe's data: what is painted can be described, coded and read back."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest

from training.caption import Said, describe, random_said
from training.codebook import MASK_COUNT, TOKEN_COUNT, Codebook, learn, token_parts
from training.evaluate import trials
from training.judge import overlaps_of, place_of, size_of, subject_is_right
from training.painting import paint
from training.palette import COLOUR_NAMES
from training.patches import split
from training.reader import read
from training.scene import PLACES, SIZES, is_held_out, one_thing, random_scene, two_things
from training.shapes import SHAPE_NAMES
from training.vocabulary import write


@pytest.fixture(scope="module")
def codebook() -> Codebook:
    return Codebook(learn(picture_count=150, iterations=5, seed=1))


def test_there_are_enough_shapes_colours_sizes_and_places() -> None:
    assert (len(SHAPE_NAMES), len(COLOUR_NAMES), len(SIZES), len(PLACES)) == (8, 12, 3, 9)


def test_the_reader_reads_what_was_painted() -> None:
    rng = Random(4)
    for _ in range(60):
        scene = random_scene(rng)
        reading = read(paint(scene))
        assert subject_is_right(reading, scene), scene
        assert min(overlaps_of(reading, scene)) > 0.93
        if scene.kind == "one":
            assert (size_of(reading.objects[0]), place_of(reading.objects[0])) == (scene.size, scene.place)


def test_the_judge_sees_every_kind_of_mistake() -> None:
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


def test_evaluation_has_seen_unseen_two_and_counts() -> None:
    asked = list(trials(600, 1))
    assert Counter(trial.group for trial in asked) == {"seen": 180, "unseen": 180, "two": 150, "count": 90}
    for trial in asked:
        if trial.group in ("seen", "unseen"):
            thing = trial.scene.things[0]
            assert is_held_out(thing.shape, thing.colour, trial.scene.background) == (trial.group == "unseen")


def test_plain_prompts_say_what_the_scene_shows() -> None:
    rng = Random(2)
    scene = one_thing(rng, "star", "green", "blue", "small", "top")
    assert describe(scene, Said(), rng, plain=True) == "a small green star at the top on a blue background"
    scene = two_things(rng, ("ring", "pink"), ("square", "black"), "above", "white")
    assert describe(scene, Said(), rng, plain=True) == "a pink ring above a black square on a white background"


def test_what_is_not_said_is_not_in_the_prompt() -> None:
    rng = Random(3)
    for _ in range(200):
        scene = one_thing(rng, "star", "green", "red", "small", "left")
        prompt = describe(scene, Said(colour=False, background=False, size=False, place=False), rng)
        assert not {"green", "emerald", "red", "crimson", "small", "left"} & set(prompt.split())


def test_coded_pictures_keep_their_colours_and_edges(codebook: Codebook) -> None:
    first, second, mask = (part.numpy() for part in token_parts())
    masks = np.concatenate([codebook.masks, np.zeros((1, 256), np.float32)])
    assert len(first) == TOKEN_COUNT
    rng = Random(6)
    for _ in range(30):
        picture = paint(random_scene(rng))
        tokens, patches = codebook.encode(picture), split(picture)
        assert 0 <= tokens.min() <= tokens.max() < TOKEN_COUNT
        assert (first[tokens] == patches.first).all()
        assert (second[tokens] == patches.second).all()
        assert ((mask[tokens] == MASK_COUNT) == (patches.first == patches.second)).all()
        errors = np.abs(masks[mask[tokens[patches.edges]]] - patches.masks).mean()
        assert errors < 0.2


def test_the_vocabulary_spells_any_word(tmp_path: Path) -> None:
    from training.pool import load_tokenizer

    write(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    unknown = tokenizer.token_from_subword["<unk>"]
    rng = Random(1)
    for _ in range(50):
        prompt = describe(random_scene(rng), random_said(rng), rng)
        assert unknown not in tokenizer.tokenize(prompt + " Qwyxz-{42}!")
    assert len(tokenizer.tokenize("a red circle on a blue background")) <= 12
