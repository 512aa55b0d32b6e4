"""The training data: scenes can be described, painted, read back and judged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from engine.weights.tokenizer import load_tokenizer
from training.autoencoder import Encoder
from training.caption import COUNT_WORDS, PLACE_WORDS, RELATION_WORDS, SIZE_WORDS, describe
from training.catalogue import catalogue, trained_indices
from training.codes import TOKEN_COUNT, quantise, token_codes
from training.evaluate import GOALS, trials, typed_trials
from training.judge import Wanted, named, things_are_right, wanted_of
from training.painting import Painter, as_arrays
from training.palette import COLOUR_WORDS
from training.paths import DATA
from training.reader import Reader, Reading
from training.scene import BACKGROUNDS, PLACES, RELATIONS, SIDES, SIZES, Said, Scene, in_a_row, one_thing, random_scene

from training.scene import thing_inside, two_things  # isort: skip
from training.vocabulary import learn

Read = Callable[[Scene], Reading]


def index_of(name: str) -> int:
    return min(named(name))


@pytest.fixture(scope="module")
def read() -> Read:
    """Return a function that paints a scene and reads it back."""
    painter, reader = Painter("cpu"), Reader()

    def read(scene: Scene) -> Reading:
        pixels, _ = painter(*as_arrays([scene]))
        return reader.read((pixels[0].permute(1, 2, 0) * 255).round().to(torch.uint8))

    return read


def test_the_catalogue_has_the_pictures_and_the_shapes() -> None:
    things = catalogue()
    assert (len(things), len(trained_indices()), len([thing for thing in things if thing.shape])) == (1198, 764, 96)
    names = {thing.names[0] for thing in things}
    for line in (DATA / "left_out.txt").read_text().splitlines():
        assert line in names
    assert {"car", "cat", "kitten", "red circle", "crimson disc"} <= {name for thing in things for name in thing.names}
    assert catalogue()[index_of("mouse")].plural("mouse") == "mice"


def test_scenes_lie_on_the_grid_of_tokens_and_what_is_unsaid_looks_good() -> None:
    rng = Random(1)
    for _ in range(2000):
        scene, said = random_scene(rng)
        for placed in scene.placed:
            assert placed.y % 16 == placed.x % 16 == 0
            assert min(placed.y, placed.x) >= 0 and max(placed.y, placed.x) + SIDES[placed.size] <= 256
            assert catalogue()[placed.thing].is_trained and catalogue()[placed.thing].colour != scene.background
        if scene.kind == "one":
            assert said.size or scene.size != "small"
            assert said.place or scene.place == "centre"
        assert said.background or scene.background in ("white", "yellow", "pink", "cyan", "gray")


def any_of(*words: str) -> str:
    return rf"\b({'|'.join(words)})\b"


def test_captions_say_what_they_should_and_nothing_else() -> None:
    rng = Random(2)
    fox = index_of("fox")
    groups = SIZE_WORDS["small"], PLACE_WORDS["top"], COLOUR_WORDS["blue"]
    scene = one_thing(rng, fox, "blue", "small", "top")
    typo = re.compile(r"backgr|pictu")
    for _ in range(200):
        everything = describe(scene, Said(), rng, loosely=False)
        assert all(re.search(any_of(*words), everything) for words in (("fox",), *groups)) or typo.search(everything), everything
        only = describe(scene, Said(background=False, size=False, place=False), rng, loosely=False)
        assert not any(re.search(any_of(*words), only) for words in groups), only
        two = describe(in_a_row(rng, (fox, fox), "white"), Said(), rng, loosely=False)
        assert re.search(f"{any_of(*COUNT_WORDS[2])}.*foxes", two), two


@pytest.mark.parametrize(("relation", "converse"), [("above", "below"), ("right of", "left of")])
def test_captions_say_the_relation_in_the_right_direction(relation: str, converse: str) -> None:
    rng = Random(2)
    forward = re.compile(rf"fox\b.* {any_of(*RELATION_WORDS[relation])} .*owl")
    backward = re.compile(rf"owl\b.* {any_of(*RELATION_WORDS[converse])} .*fox")
    found = Counter[tuple[bool, bool]]()
    for _ in range(300):
        scene = two_things(rng, index_of("fox"), index_of("owl"), relation, "white")
        text = describe(scene, Said(background=False), rng, loosely=False)
        found[bool(forward.search(text)), bool(backward.search(text))] += 1
    assert found[True, True] == 0 and min(found[True, False], found[False, True]) > 30


def test_things_beside_one_another_may_be_on_either_side(read: Read) -> None:
    rng, unsaid = Random(3), Said(side=False)
    fox, owl = index_of("fox"), index_of("owl")
    scene = two_things(rng, fox, owl, "left of", "white")
    texts = [describe(scene, unsaid, rng, loosely=False) for _ in range(100)]
    assert not any(re.search(r"\b(left|right)\b", text) for text in texts)
    wanted = wanted_of(scene, unsaid)
    right = {relation: right_for(read, two_things(rng, fox, owl, relation, "white"), wanted) for relation in RELATIONS}
    assert right == {"above": False, "below": False, "left of": True, "right of": True}
    scenes = [(scene, said) for scene, said in (random_scene(rng, "two") for _ in range(400)) if not said.side]
    assert 40 < len(scenes) < 110 and {scene.relation for scene, _ in scenes} == {"left of", "right of"}


def test_painted_scenes_are_read_back(read: Read) -> None:
    rng = Random(4)
    scenes = [random_scene(rng) for _ in range(40)]
    wrong = [scene for scene, said in scenes if not right_for(read, scene, wanted_of(scene, said))]
    assert len(wrong) <= 1, wrong


def right_for(read: Read, scene: Scene, wanted: Wanted) -> bool:
    reading = read(scene)
    return things_are_right(reading, wanted) and wanted.background in (None, reading.background)


def test_the_judge_finds_every_kind_of_mistake(read: Read) -> None:
    rng = Random(1)
    fox, owl, bear, circle = (index_of(name) for name in ("fox", "owl", "bear", "red circle"))
    scene = two_things(rng, fox, owl, "above", "white")
    wanted = wanted_of(scene, Said())
    mistakes = [
        two_things(rng, fox, owl, "below", "white"),
        two_things(rng, bear, owl, "above", "white"),
        two_things(rng, fox, owl, "above", "black"),
        one_thing(rng, fox, "white", "medium", "top"),
        replace(scene, placed=(*scene.placed, replace(scene.placed[0], x=0))),
    ]
    assert right_for(read, scene, wanted)
    assert [mistake for mistake in mistakes if right_for(read, mistake, wanted)] == []
    small = one_thing(rng, fox, "white", "small", "left")
    assert right_for(read, small, wanted_of(small, Said()))
    for change in ({"size": "medium"}, {"place": "right"}, {"things": (named("owl"),)}):
        assert not right_for(read, small, replace(wanted_of(small, Said()), **change))
    inside = thing_inside(fox, circle, "blue")
    assert right_for(read, inside, Wanted((named("fox"), named("red circle")), "blue", "inside"))
    assert not right_for(read, inside, Wanted((named("red circle"), named("fox")), "blue", "inside"))


def test_codes_and_tokens_are_one_to_one() -> None:
    codes = token_codes()
    again, tokens = quantise(torch.atanh(codes.T[None, :, :, None] * 0.999))
    assert torch.equal(tokens.flatten(), torch.arange(TOKEN_COUNT))
    torch.testing.assert_close(again[0, :, :, 0].T, codes)


def test_a_token_depends_on_its_pixels_and_a_few_around() -> None:
    torch.manual_seed(0)
    encoder = Encoder(width=8, mixed=16).eval()
    pixels = torch.rand(1, 3, 96, 96)
    changed = pixels.clone()
    changed[:, :, 24:72, 24:72] = 0.5  # all pixels within 8 of the four tokens in the middle
    with torch.no_grad():
        same = (encoder(pixels) == encoder(changed)).all(1)[0]
    assert same[0].all() and same[:, 0].all() and not same[2:4, 2:4].any()


def test_the_vocabulary_spells_any_word() -> None:
    tokenizer = load_tokenizer(DATA)
    unknown = tokenizer.token_from_subword["<unk>"]
    rng = Random(1)
    for _ in range(50):
        assert unknown not in tokenizer.tokenize(describe(*random_scene(rng), rng, loosely=False) + " Qwyxz-{42}!")
    assert len(tokenizer.tokenize("a red circle on a blue background")) <= 10


def test_the_most_frequent_pair_is_merged_first() -> None:
    vocabulary, merges = learn(Counter({"banana": 3, "bandana": 2, "nab": 1}), 4)
    assert merges[0] == "a n" and len(merges) == 4
    assert next(subword for subword in vocabulary if len(subword) > 1 and "<" not in subword) == "an"


def test_the_evaluation_has_all_rows() -> None:
    chosen = list(trials(12, 1))
    rows = Counter(trial.row for trial in chosen)
    assert rows == dict.fromkeys(list(GOALS)[:7], 12) | {"prompts typed by hand": 200}
    for trial in chosen[:36]:
        assert trial.row == f"one thing, {trial.wanted.size}"


def test_the_prompts_typed_by_hand_ask_for_what_can_be_judged() -> None:
    typed = list(typed_trials())
    assert len({trial.prompt for trial in typed}) == 200
    for trial in typed:
        wanted = trial.wanted
        assert wanted.background in (None, *BACKGROUNDS) and wanted.size in (None, *SIZES) and wanted.place in (None, *PLACES)
        assert wanted.relation in (None, *RELATIONS, "inside")
        assert 1 <= len(wanted.things) <= 3 and (wanted.relation is None or len(wanted.things) == 2)
        assert all(any(catalogue()[thing].is_trained for thing in things) for things in wanted.things), trial.prompt


def test_the_folder_of_the_data_says_whose_they_are() -> None:
    text = Path(DATA / "README.md").read_text()
    for owner in ("Microsoft", "Unicode", "Miles Johnson", "Mu-An Chiou"):
        assert owner in text
