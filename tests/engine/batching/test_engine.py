"""Hold the engine on real weights, Tiny's: one batch for all, the same image in any company, one picture at a time, the end."""

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
def test_a_request_gives_progress_and_its_image(engine: Engine) -> None:
    events = list(engine.submit(request(seeds=(41,))).events())
    assert [e.tokens_drawn for e in events if isinstance(e, Progress)] == list(range(8, 257, 8))
    done = events[-1]
    assert isinstance(done, ImageDone)
    assert (done.index, done.seed, done.image.size, done.image.mode) == (0, 41, (256, 256), "RGB")


def test_who_waits_for_the_image_alone_is_not_woken_by_progress(engine: Engine) -> None:
    events = [type(event) for event in engine.submit(request()).events(progress=False)]
    assert events == [Queued, ImageDone]


def test_previews_come_every_32_tokens_and_are_grey_where_nothing_is_drawn(engine: Engine) -> None:
    previews = [e for e in engine.submit(request(previews=PREVIEWS)).events() if isinstance(e, Preview)]
    assert [preview.tokens_drawn for preview in previews] == list(range(32, 256, 32))
    first = previews[0].image  # 32 tokens: two of sixteen rows
    assert first.crop((0, 32, 256, 256)).getcolors() == [(256 * 224, (128, 128, 128))]
    assert first.crop((0, 0, 256, 32)).getcolors(256 * 32) != [(256 * 32, (128, 128, 128))]


@pytest.mark.parametrize("loaded", ["auto", "torch"], indirect=True)
def test_an_image_is_the_same_to_the_bit_alone_and_among_others_who_come_and_go(engine: Engine) -> None:
    rng = Random(5)
    prompts = ["a red circle", "two yellow hearts on a very dark black background", "star", "a pink ring above a black square"]
    asked = [request(rng.choice(prompts), tuple(rng.randrange(9) for _ in range(rng.randint(1, 3)))) for _ in range(6)]
    alone = [images_of(engine.submit(one)) for one in asked]
    jobs = []
    for one in asked:  # the next comes at a random moment of the one before
        jobs.append(engine.submit(one))
        for _, _ in zip(range(rng.randrange(20)), jobs[-1].events(), strict=False):
            pass
    companions = [engine.submit(one) for one in asked]
    assert [images_of(job) for job in companions] == alone
    for job in jobs:
        engine.cancel(job)


def test_two_callers_at_once_are_drawn_in_one_batch_and_each_prompt_is_encoded_once(
    engine: Engine, runner: WatchedRunner
) -> None:
    runner.hold()
    jobs = [engine.submit(request("a star", (1, 2))), engine.submit(request("a heart", (3,)))]
    runner.go()
    for job in jobs:
        images_of(job)
    assert [name for name, _ in runner.calls].count("encode") == 2
    assert max(runner.batch_sizes) == 3
    assert len(runner.batch_sizes) < 2 * 256


def test_more_images_than_slots_wait_and_none_is_lost(engine: Engine, runner: WatchedRunner) -> None:
    assert images_of(engine.submit(request(seeds=tuple(range(10))))).keys() == set(range(10))
    assert max(runner.batch_sizes) == 4


def test_cancelling_frees_the_slots_by_the_next_step(engine: Engine, runner: WatchedRunner) -> None:
    job = engine.submit(request(seeds=(1, 2, 3, 4)))
    wait_for(job, lambda event: isinstance(event, Progress))
    runner.hold()
    runner.wait_until_held()
    other = engine.submit(request())
    engine.cancel(job)
    steps_until_then = len(runner.batch_sizes) + 1  # the one that is held
    runner.go()
    images_of(other)
    assert runner.batch_sizes[steps_until_then:] == [1] * 256
    assert engine.state.images_cancelled == 4


def test_cancelling_changes_no_other_image(engine: Engine) -> None:
    alone = images_of(engine.submit(request(seeds=(7, 8))))
    leaving = [engine.submit(request("a star", (1,))), engine.submit(request("a heart", (2, 3)))]
    staying = engine.submit(request(seeds=(7, 8)))
    for tokens, job in zip((40, 96), leaving, strict=True):
        wait_for(job, lambda event, tokens=tokens: isinstance(event, Progress) and event.tokens_drawn == tokens)  # type: ignore[misc]
        engine.cancel(job)
    assert images_of(staying) == alone


def test_closing_ends_what_is_under_way_and_refuses_more(make_engine: MakeEngine) -> None:
    engine = make_engine(1)
    job = engine.submit(request(seeds=(1, 2)))
    engine.close()
    with pytest.raises(EngineClosed):
        images_of(job)
    with pytest.raises(EngineClosed):
        engine.submit(request())


def test_seamless_images_are_one_picture_without_seams(engine: Engine) -> None:
    (event,) = (e for e in engine.submit(request(seeds=(1, 2, 3, 4, 5, 6), seamless=True)).events() if isinstance(e, ImageDone))
    assert event.image.size == (3 * 256, 2 * 256)


def test_drawn_images_free_their_slots_at_once_and_are_shown_one_a_step_while_others_are_decoded(
    engine: Engine, runner: WatchedRunner
) -> None:
    images_of(engine.submit(request(seeds=tuple(range(8)))))
    calls = [(name, count) for name, count in runner.calls if name in {"step", "detokenize"}]
    first_batch, second_batch = [("step", 4)] * 256, [("step", 4)] * 252
    shown_between = [("detokenize", 1), ("step", 4)] * 4
    assert calls == [*first_batch, *shown_between, *second_batch, ("detokenize", 4)]


def test_a_preview_whose_image_has_a_newer_one_is_not_shown(make_engine: MakeEngine, runner: WatchedRunner) -> None:
    job = make_engine(12).submit(request(seeds=tuple(range(12)), previews=PREVIEWS))
    shown = [event for event in job.events() if isinstance(event, Preview)]
    places = {index: [event.tokens_drawn for event in shown if event.index == index] for index in range(12)}
    assert all(tokens == sorted(set(tokens)) for tokens in places.values())
    assert 0 < len(shown) <= 255 // PREVIEW_SPACING < 12 * 7


def test_between_two_previews_images_are_decoded(make_engine: MakeEngine, runner: WatchedRunner) -> None:
    images_of(make_engine(3).submit(request(seeds=(1, 2, 3), previews=PREVIEWS)))
    shown = [place for place, (name, _) in enumerate(runner.calls) if name == "detokenize"]
    previews = shown[:-1]  # the last are the three images
    assert len(previews) > 7
    assert min(later - earlier for earlier, later in pairwise(previews)) > PREVIEW_SPACING
