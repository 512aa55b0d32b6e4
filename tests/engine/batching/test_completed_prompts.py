"""What a prompt leaves unsaid: the engine says it where the model's list of words does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from engine.batching.engine import Engine
from engine.request import DrawingRequest
from engine.runners import LogitsRunner, SamplingRunner
from engine.text import tokenize_prompt
from engine.weights.checkpoint import ModelFiles, find_model
from engine.weights.sources import FolderSource
from tests.engine.watched_runner import images_of, request

WORDS = {
    "things": {"cat": ["kitten"], "heart": []},
    "sizes": {"big": ["large"]},
    "places": {"in the middle": []},
    "sceneries": {"white": ["on a white background"]},
    "unsaid": {"sizes": ["big"], "places": ["in the middle"], "sceneries": ["on a blue background", "on a white background"]},
}
SAID = "a big heart in the middle on a white background"


def engine_with(words: object, loaded: tuple[ModelFiles, LogitsRunner], folder: Path) -> Engine:
    (folder / "tiny").mkdir(exist_ok=True)
    (folder / "tiny" / "known_words.json").write_text(json.dumps(words))
    files = replace(loaded[0], source=FolderSource(folder))
    return Engine(lambda: (files, SamplingRunner(loaded[1], files.config)), max_batch_size=2)


def test_a_prompt_of_one_thing_is_completed_and_stays_as_it_was_for_its_caller(
    loaded: tuple[ModelFiles, LogitsRunner], engine: Engine, tmp_path: Path
) -> None:
    expected = images_of(engine.submit(request(SAID)))
    assert images_of(engine.submit(request("Heart!"))) != expected, "the built-in model's prompts are not completed"
    completing = engine_with(WORDS, loaded, tmp_path)
    try:
        job = completing.submit(DrawingRequest("Heart!", (1,), request().sampling, negative_prompt="heart"))
        assert job.request.prompt == "Heart!"
        prompt = job.slots[0].prompt
        assert prompt.text_tokens == tokenize_prompt(loaded[0].tokenizer, SAID, loaded[0].config)
        assert prompt.negative_tokens == tokenize_prompt(loaded[0].tokenizer, "heart", loaded[0].config)
        assert completing.count_text_tokens("Heart!") == len(prompt.text_tokens)
        assert len(images_of(job)) == 1
        assert images_of(completing.submit(request("Heart!"))) == expected
    finally:
        completing.close()


def test_an_image_reads_what_its_seed_chooses_whatever_else_is_drawn(
    loaded: tuple[ModelFiles, LogitsRunner], engine: Engine, tmp_path: Path
) -> None:
    completing = engine_with(WORDS, loaded, tmp_path)
    try:
        job = completing.submit(DrawingRequest("Heart!", (4, 5, 6), request().sampling))
        first, second, third = (slot.prompt for slot in job.slots)
        assert first is third and first is not second
        together = images_of(job)
        for seed, said in ((4, SAID.replace("white", "blue")), (5, SAID)):
            assert images_of(engine.submit(DrawingRequest(said, (seed,), request().sampling))) == {0: together[seed - 4]}
        seamless = completing.submit(DrawingRequest("Heart!", (5, 6), request().sampling, seamless=True))
        assert len({id(slot.prompt) for slot in seamless.slots}) == 1, "one picture has one background"
        assert images_of(seamless) == images_of(engine.submit(DrawingRequest(SAID, (5, 6), request().sampling, seamless=True)))
    finally:
        completing.close()


def test_a_list_of_words_without_unsaid_ones_completes_nothing(loaded: tuple[ModelFiles, LogitsRunner], tmp_path: Path) -> None:
    engine = engine_with({name: words for name, words in WORDS.items() if name != "unsaid"}, loaded, tmp_path)
    try:
        assert engine.count_text_tokens("heart") == len(tokenize_prompt(loaded[0].tokenizer, "heart", loaded[0].config))
    finally:
        engine.close()


def test_the_built_in_model_has_no_such_list() -> None:
    assert find_model("tiny").known_words() is None
