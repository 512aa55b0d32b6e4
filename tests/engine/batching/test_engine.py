"""The engine with Tiny's weights: one batch for all requests, the same image in any batch, pictures one at a time, closing."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from engine.batching.engine import Engine
from engine.batching.gallery import PREVIEW_SPACING
from engine.errors import EngineClosed
from engine.events import ImageDone, Preview, Progress, Queued
from engine.request import PREVIEWS
from tests.engine.conftest import MakeEngine
from tests.engine.watched_runner import WatchedRunner, images_of, request, wait_for


@pytest.mark.parametrize("loaded", ["auto", "torch"], indirect=True)
def test_a_request_yields_progress_and_its_image(engine: Engine) -> None:
    events = list(engine.submit(request(seeds=(41,))).events())
    assert [e.tokens_drawn for e in events if isinstance(e, Progress)] == list(range(8, 257, 8))
    done = events[-1]
    assert isinstance(done, ImageDone)
    assert (done.index, done.seed, done.image.size, done.image.mode) == (0, 41, (256, 256), "RGB")


def test_a_caller_can_wait_for_its_image_without_progress_events(engine: Engine) -> None:
    events = [type(event) for event in engine.submit(request()).events(progress=False)]
    assert events == [Queued, ImageDone]


def test_previews_come_every_32_tokens_and_are_grey_where_tokens_are_missing(engine: Engine) -> None:
    previews = [e for e in engine.submit(request(previews=PREVIEWS)).events() if isinstance(e, Preview)]
    assert [preview.tokens_drawn for preview in previews] == list(range(32, 256, 32))
    first = previews[0].image  # 32 tokens: two of sixteen rows
    assert first.crop((0, 32, 256, 256)).getcolors() == [(256 * 224, (128, 128, 128))]
    assert first.crop((0, 0, 256, 32)).getcolors(256 * 32) != [(256 * 32, (128, 128, 128))]


# Fewer with torch, whose rows tests/engine/runners compare at each of their tokens.
@pytest.mark.parametrize(("loaded", "count"), [("auto", 4), ("torch", 2)], indirect=["loaded"])
def test_an_image_is_bit_identical_alone_and_in_a_changing_batch(engine: Engine, count: int) -> None:
    rng = Random(5)
    prompts = ["a red circle", "two yellow hearts on a very dark black background", "star", "a pink ring above a black square"]
    requests = [request(rng.choice(prompts), tuple(rng.randrange(9) for _ in range(rng.randint(1, 3)))) for _ in range(count)]
    alone = [images_of(engine.submit(each)) for each in requests]
    jobs = []
    for each in requests:  # each is submitted at a random moment of the one before
        jobs.append(engine.submit(each))
        for _, _ in zip(range(rng.randrange(20)), jobs[-1].events(), strict=False):
            pass
    together = [engine.submit(each) for each in requests]
    assert [images_of(job) for job in together] == alone
    for job in jobs:
        engine.cancel(job)


def test_two_requests_are_drawn_in_one_batch_and_each_prompt_is_encoded_once(engine: Engine, runner: WatchedRunner) -> None:
    runner.hold()
    jobs = [engine.submit(request("a star", (1, 2))), engine.submit(request("a heart", (3,)))]
    runner.go()
    for job in jobs:
        images_of(job)
    assert [name for name, _ in runner.calls].count("encode") == 2
    assert max(runner.batch_sizes) == 3
    assert len(runner.batch_sizes) < 2 * 256


def test_cancelling_frees_the_slots_by_the_next_step(engine: Engine, runner: WatchedRunner) -> None:
    job = engine.submit(request(seeds=(1, 2, 3, 4)))
    wait_for(job, lambda event: isinstance(event, Progress))
    runner.hold()
    runner.wait_until_held()
    other = engine.submit(request())
    engine.cancel(job)
    steps = len(runner.batch_sizes) + 1  # with the held one
    runner.go()
    images_of(other)
    assert runner.batch_sizes[steps:] == [1] * 256
    assert engine.state.images_cancelled == 4


def test_cancelling_does_not_change_other_images(engine: Engine) -> None:
    alone = images_of(engine.submit(request(seeds=(7, 8))))
    leaving = [engine.submit(request("a star", (1,))), engine.submit(request("a heart", (2, 3)))]
    staying = engine.submit(request(seeds=(7, 8)))
    for tokens, job in zip((40, 96), leaving, strict=True):
        wait_for(job, lambda event, tokens=tokens: isinstance(event, Progress) and event.tokens_drawn == tokens)  # type: ignore[misc]
        engine.cancel(job)
    assert images_of(staying) == alone


def test_closing_ends_requests_in_progress_and_refuses_new_ones(make_engine: MakeEngine) -> None:
    engine = make_engine(1)
    job = engine.submit(request(seeds=(1, 2)))
    engine.close()
    with pytest.raises(EngineClosed):
        images_of(job)
    with pytest.raises(EngineClosed):
        engine.submit(request())


def test_drawn_images_free_their_slots_and_are_detokenized_one_per_step(engine: Engine, runner: WatchedRunner) -> None:
    assert images_of(engine.submit(request(seeds=tuple(range(8))))).keys() == set(range(8))
    calls = [(name, count) for name, count in runner.calls if name in {"step", "detokenize"}]
    both = [("detokenize", 1), ("step", 4)] * 4  # the first batch's images, between steps of the second
    assert calls == [*[("step", 4)] * 256, *both, *[("step", 4)] * 252, ("detokenize", 4)]


def test_a_preview_is_skipped_if_its_image_has_a_newer_one(make_engine: MakeEngine, runner: WatchedRunner) -> None:
    job = make_engine(12).submit(request(seeds=tuple(range(12)), previews=PREVIEWS))
    previews = [event for event in job.events() if isinstance(event, Preview)]
    positions = [[event.tokens_drawn for event in previews if event.index == index] for index in range(12)]
    assert all(tokens == sorted(set(tokens)) for tokens in positions)
    assert 0 < len(previews) <= 255 // PREVIEW_SPACING < 12 * 7


def test_no_preview_is_skipped_for_a_request_that_wants_every_one(make_engine: MakeEngine) -> None:
    job = make_engine(8).submit(request(seeds=tuple(range(12)), previews=PREVIEWS, every_preview=True))
    events = list(job.events())
    for index in range(12):
        shown = [event for event in events if isinstance(event, Preview | ImageDone) and event.index == index]
        assert [event.tokens_drawn for event in shown if isinstance(event, Preview)] == list(PREVIEWS)
        assert isinstance(shown[-1], ImageDone)


def test_there_are_steps_between_two_previews(make_engine: MakeEngine, runner: WatchedRunner) -> None:
    images_of(make_engine(3).submit(request(seeds=(1, 2, 3), previews=PREVIEWS)))
    *previews, _ = [index for index, (name, _) in enumerate(runner.calls) if name == "detokenize"]  # the last: three images
    assert len(previews) > 7
    assert min(later - earlier for earlier, later in pairwise(previews)) > PREVIEW_SPACING
