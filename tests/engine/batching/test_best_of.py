"""The best of several candidates: the likeliest is shown, in any batch the same one, and only it is detokenized."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from consts import MAX_SEED
from engine.batching.engine import Engine
from engine.batching.job import Slot
from engine.errors import InvalidRequest
from engine.events import ImageDone, Preview, Progress
from engine.request import PREVIEWS, DrawingRequest, SamplingSettings
from engine.runners import LogitsRunner, SamplingRunner
from engine.sampler import log_likelihoods
from engine.weights.checkpoint import ModelFiles
from tests.engine.conftest import MakeEngine
from tests.engine.watched_runner import WatchedRunner, images_of, request

PROMPT, SEED, COUNT = "two yellow hearts", 3, 3


def best_of(count: int, seeds: tuple[int, ...] = (SEED,), **more: object) -> DrawingRequest:
    return DrawingRequest(PROMPT, seeds, SamplingSettings(0.9, 64, 1.3, count), **more)  # type: ignore[arg-type]


def mean_likelihood(runner: WatchedRunner, text_tokens: list[int], start: int, tokens: list[int]) -> float:
    """Return the mean log-likelihood of an image's tokens with the text, by torch."""
    runner.reset()
    runner.admit([runner.encode(text_tokens)])
    total = 0.0
    for position, (before, token) in enumerate(zip([start, *tokens], tokens, strict=False)):
        logits = runner.step([before], [position])
        total += torch.log_softmax(torch.from_numpy(logits[0, 1].astype(np.float64)), 0)[token].item()
    runner.reset()
    return total / len(tokens)


def test_log_likelihoods_are_those_of_torch() -> None:
    logits = torch.randn((5, 400), generator=torch.Generator().manual_seed(0)) * 3
    tokens = [0, 399, 7, 7, 200]
    expected = torch.log_softmax(logits.double(), 1)[range(5), tokens]
    assert np.allclose(log_likelihoods(logits.numpy(), tokens), expected, rtol=0, atol=1e-6)


def test_the_likeliest_candidate_is_shown_with_its_score(
    engine: Engine, runner: WatchedRunner, loaded: tuple[ModelFiles, object]
) -> None:
    job = engine.submit(best_of(COUNT))
    [done] = [event for event in job.events() if isinstance(event, ImageDone)]
    engine.close()
    start = loaded[0].config.decoder_start_token_id
    scores = [mean_likelihood(runner, slot.prompt.text_tokens, start, slot.tokens) for slot in job.slots]
    assert len({tuple(slot.tokens) for slot in job.slots}) == COUNT
    assert done.seed == SEED
    assert done.score == pytest.approx(max(scores), abs=1e-5)


def test_each_candidate_is_the_image_of_a_seed_of_its_own(engine: Engine) -> None:
    job = engine.submit(best_of(COUNT))
    [shown] = images_of(job).values()
    seeds = tuple(SEED + candidate * (MAX_SEED + 1) for candidate in range(COUNT))
    alone = images_of(engine.submit(best_of(1, seeds)))
    chosen = max(range(COUNT), key=lambda candidate: job.slots[candidate].score_at(256))
    assert alone[chosen] == shown
    assert [images_of(engine.submit(best_of(1)))[0], job.slots[0].seed] == [alone[0], SEED]


def test_the_choice_is_the_same_in_any_batch_and_after_memory_ran_out(make_engine: MakeEngine, runner: WatchedRunner) -> None:
    alone = images_of(make_engine(16).submit(best_of(COUNT, (3, 4))))
    engine = make_engine(16)
    jobs = [engine.submit(best_of(COUNT, (4,))), engine.submit(request()), engine.submit(best_of(COUNT, (3, 4)))]
    beside = [images_of(job) for job in jobs]
    assert beside[2] == alone and beside[0][0] == alone[1]
    runner.max_rows = 2
    assert images_of(make_engine(16).submit(best_of(COUNT, (3, 4)))) == alone


def test_only_shown_pictures_are_detokenized_and_all_candidates_count(engine: Engine, runner: WatchedRunner) -> None:
    assert len(images_of(engine.submit(best_of(COUNT, (1, 2))))) == 2
    assert sum(count for name, count in runner.calls if name == "detokenize") == 2
    assert engine.state.images_drawn == 2 * COUNT


def test_progress_and_previews_are_those_of_images_not_of_candidates(make_engine: MakeEngine) -> None:
    events = list(make_engine(4).submit(best_of(COUNT, previews=PREVIEWS, every_preview=True)).events())
    assert [event.tokens_drawn for event in events if isinstance(event, Progress)] == list(range(8, 257, 8))
    assert [event.tokens_drawn for event in events if isinstance(event, Preview)] == list(PREVIEWS)
    one_by_one = list(make_engine(1).submit(best_of(COUNT)).events())
    assert [event.tokens_drawn for event in one_by_one if isinstance(event, Progress)] == list(range(8, 257, 8))


def test_each_image_of_a_seamless_picture_is_the_best(engine: Engine) -> None:
    job = engine.submit(best_of(2, (1, 2), seamless=True))
    [done] = [event for event in job.events() if isinstance(event, ImageDone)]
    best = [max(job.candidates(index), key=lambda slot: slot.score_at(256)) for index in range(2)]
    assert done.score == pytest.approx(sum(slot.score_at(256) for slot in best) / 2)


def test_cancelling_frees_every_candidate(engine: Engine, runner: WatchedRunner) -> None:
    runner.hold()
    job = engine.submit(best_of(4))
    runner.wait_until_held()
    engine.cancel(job)
    assert engine.state.images_cancelled == 4
    runner.go()
    assert len(images_of(engine.submit(request()))) == 1


def test_more_candidates_than_there_is_ever_room_for_are_refused(make_engine: MakeEngine) -> None:
    engine = make_engine(4, 8)
    with pytest.raises(InvalidRequest, match="best_of for each of 4 images makes 16, but this server holds 12") as refused:
        engine.submit(best_of(4, (1, 2, 3, 4)))
    assert refused.value.field == "best_of"


def test_an_empty_sheet_is_shown_only_if_all_candidates_are_empty(
    make_engine: MakeEngine, runner: WatchedRunner, loaded: tuple[ModelFiles, LogitsRunner]
) -> None:
    seeds = tuple(range(6))
    job = make_engine(18).submit(best_of(COUNT, seeds))
    images_of(job)
    images = [job.candidates(index) for index in seeds]
    least = 1 + min(len(set(likeliest(candidates).tokens)) for candidates in images)
    full = [[slot for slot in candidates if len(set(slot.tokens)) >= least] for candidates in images]
    chosen = [likeliest(some or candidates) for some, candidates in zip(full, images, strict=True)]
    assert chosen != [likeliest(candidates) for candidates in images]
    files = replace(loaded[0], config=replace(loaded[0].config, min_distinct_tokens=least))
    strict = Engine(lambda: (files, SamplingRunner(runner, files.config)), 18)
    scores = {event.index: event.score for event in strict.submit(best_of(COUNT, seeds)).events() if isinstance(event, ImageDone)}
    strict.close()
    assert [scores[index] for index in seeds] == [slot.score_at(256) for slot in chosen]


def likeliest(candidates: list[Slot]) -> Slot:
    return max(candidates, key=lambda slot: slot.score_at(256))
