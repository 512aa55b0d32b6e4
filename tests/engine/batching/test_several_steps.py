"""A runner that draws several tokens at once: the same images, events and scores as with one that draws one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.batching.batch import MAX_STEPS
from engine.batching.engine import Engine
from engine.batching.job import Job
from engine.errors import GenerationFailed
from engine.events import Event, Progress, Queued
from engine.request import PREVIEWS, DrawingRequest, SamplingSettings
from engine.runners import LogitsRunner, SamplingRunner
from engine.runners.runner import Drawn
from engine.weights.checkpoint import ModelFiles
from tests.engine.watched_runner import WatchedRunner, images_of, request, wait_for


class SeveralSteps(SamplingRunner):
    """A `Runner` that draws as many tokens as it may."""

    def draw(self, steps: int) -> Drawn:
        drawn = [super(SeveralSteps, self).draw(1) for _ in range(steps)]
        return Drawn(
            np.concatenate([each.tokens for each in drawn], axis=1),
            np.concatenate([each.likelihoods for each in drawn], axis=1),
            sorted({row for each in drawn for row in each.not_finite}),
        )


@pytest.fixture
def several(loaded: tuple[ModelFiles, LogitsRunner], runner: WatchedRunner) -> Iterator[Engine]:
    engine = Engine(lambda: (loaded[0], SeveralSteps(runner, loaded[0].config)), max_batch_size=4)
    yield engine
    runner.go()
    engine.close()


def told(job: Job) -> list[Event]:
    return [event for event in job.events() if not isinstance(event, Queued)]


@pytest.mark.parametrize(
    "wanted",
    [
        request(seeds=(1, 2), previews=PREVIEWS, every_preview=True),
        request(previews=(5, 17, 240), every_preview=True),
        DrawingRequest("a star", (3,), SamplingSettings(0.9, 64, 1.3, 3), previews=PREVIEWS, every_preview=True),
    ],
    ids=["previews", "previews at odd places", "best of 3"],
)
def test_a_request_gets_the_same_events(engine: Engine, several: Engine, wanted: DrawingRequest) -> None:
    assert told(several.submit(wanted)) == told(engine.submit(wanted))
    assert several.state.images_drawn == engine.state.images_drawn


def test_images_join_at_multiples_of_the_most_steps_and_pictures_keep_pace(several: Engine, runner: WatchedRunner) -> None:
    alone = images_of(several.submit(request("a heart", (3,))))
    first = several.submit(request(seeds=(1, 2, 3)))
    wait_for(first, lambda event: isinstance(event, Progress) and event.tokens_drawn == 40)
    second = several.submit(request("a heart", (3,)))
    del runner.calls[:]
    assert images_of(second) == alone
    detokenized = [count for name, count in runner.calls if name == "detokenize"]
    assert detokenized[0] == 3, "three images end together while another one is drawn, and are shown together"
    drawn_alone = [count for name, count in runner.calls if name == "step"].count(1)
    assert drawn_alone % MAX_STEPS == 0 < drawn_alone


@pytest.mark.parametrize("bad", [0, 1])
def test_only_the_image_whose_logits_are_not_finite_ends(several: Engine, runner: WatchedRunner, bad: int) -> None:
    expected = images_of(several.submit(request(seeds=(1,))))
    runner.hold()
    jobs = [several.submit(request()), several.submit(request())]
    runner.wait_until_held()
    runner.row_with_nan = bad
    runner.go()
    with pytest.raises(GenerationFailed):
        images_of(jobs[bad])
    assert images_of(jobs[1 - bad]) == expected


@pytest.mark.parametrize("kind", [SamplingRunner, SeveralSteps])
def test_pictures_come_one_by_one_and_a_request_between_them_is_begun(
    kind: type[SamplingRunner],
    several: Engine,
    loaded: tuple[ModelFiles, LogitsRunner],
    runner: WatchedRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = images_of(several.submit(request(seeds=(1, 2, 3))))
    late: list[Job] = []
    detokenize = runner.detokenize

    def detokenize_and_ask(grids: NDArray[Any]) -> NDArray[Any]:
        if not late:
            late.append(engine.submit(request("two hearts", seeds=(4,))))
        return detokenize(grids)

    monkeypatch.setattr(runner, "detokenize", detokenize_and_ask)
    runner.pictures_at_once = 1
    del runner.calls[:]
    engine = Engine(lambda: (loaded[0], kind(runner, loaded[0].config)), max_batch_size=4)
    try:
        assert images_of(engine.submit(request(seeds=(1, 2, 3)))) == together
        assert len(images_of(late[0])) == 1
    finally:
        engine.close()
    names = [name for name, _ in runner.calls if name in {"detokenize", "encode"}]
    assert names == ["encode", "detokenize", "encode", "detokenize", "detokenize", "detokenize"]
    assert {count for name, count in runner.calls if name == "detokenize"} == {1}
