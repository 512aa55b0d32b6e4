"""Hold the line before the batch: bounded, fair, with a deadline, told to the callers, and nothing of it kept afterwards."""

from __future__ import annotations

import gc
import time
import weakref

import pytest

from engine.batching.engine import Engine
from engine.batching.statistics import Observer
from engine.errors import DeadlineExceeded, EngineClosed, InvalidRequest, QueueFull
from engine.events import ImageDone, Progress, Queued
from engine.request import PREVIEWS
from tests.engine.conftest import MakeEngine
from tests.engine.watched_runner import WatchedRunner, images_of, request, wait_for


class Notes(Observer):
    """Write down every measure."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.seconds: dict[str, list[float]] = {}

    def waited(self, seconds: float) -> None:
        self.seconds.setdefault("waited", []).append(seconds)

    def step_took(self, seconds: float, batch: int) -> None:
        self.seconds.setdefault("step", []).append(seconds)

    def image_took(self, seconds: float) -> None:
        self.seconds.setdefault("image", []).append(seconds)

    def drawn(self, images: int) -> None:
        self.counts["drawn"] = self.counts.get("drawn", 0) + images

    def cancelled(self, images: int) -> None:
        self.counts["cancelled"] = self.counts.get("cancelled", 0) + images


def test_past_the_bound_a_request_is_refused_and_nothing_of_it_is_kept(make_engine: MakeEngine, runner: WatchedRunner) -> None:
    engine = make_engine(2, 3)
    images_of(engine.submit(request()))  # the speed is measured
    runner.hold()
    accepted = [engine.submit(request(seeds=(1, 2))), engine.submit(request(seeds=(3, 4, 5)))]
    runner.wait_until_held()
    with pytest.raises(QueueFull) as refused:
        engine.submit(request())
    assert 1 <= refused.value.retry_after <= 120
    assert (engine.state.slots_in_use, engine.state.images_waiting) == (2, 3)
    engine.cancel(accepted[1])
    runner.go()
    assert len(images_of(engine.submit(request()))) == 1


def test_more_images_than_there_can_ever_be_room_for_are_a_bad_request(make_engine: MakeEngine) -> None:
    engine = make_engine(2, 3)
    with pytest.raises(InvalidRequest, match="at most") as refused:
        engine.submit(request(seeds=tuple(range(6))))
    assert refused.value.field == "num_images"
    assert len(images_of(engine.submit(request(seeds=tuple(range(5)))))) == 5


def test_one_image_does_not_wait_for_ten(make_engine: MakeEngine) -> None:
    engine = make_engine(1)
    many = engine.submit(request(seeds=tuple(range(10))))
    wait_for(many, lambda event: isinstance(event, Progress))
    one = engine.submit(request("a star", (77,)))
    images_of(one)
    assert 8 <= many.undelivered_count <= 9
    engine.cancel(many)


def test_callers_are_told_their_place_and_when_it_changes(make_engine: MakeEngine, runner: WatchedRunner) -> None:
    engine = make_engine(1)
    runner.hold()
    jobs = [engine.submit(request(seeds=(i,))) for i in range(4)]
    engine.cancel(jobs[2])
    runner.go()
    told = [[event.position for event in job.events() if isinstance(event, Queued)] for job in (jobs[0], jobs[1], jobs[3])]
    assert told[0] in ([0], [1, 0])
    assert told[1][-2:] == [1, 0]
    assert told[2][-3:] == [2, 1, 0]
    assert told[2] == sorted(told[2], reverse=True)


def test_a_deadline_ends_the_wait_also_while_a_step_hangs(engine: Engine, runner: WatchedRunner) -> None:
    runner.hold()
    job = engine.submit(request(seeds=(1, 2)), timeout=0.05)
    runner.wait_until_held()
    with pytest.raises(DeadlineExceeded):
        images_of(job)
    engine.cancel(job)
    runner.go()
    images_of(engine.submit(request()))
    assert engine.state.slots_in_use <= 1


def test_draining_takes_no_new_work_and_draws_all_that_it_has(make_engine: MakeEngine, runner: WatchedRunner) -> None:
    engine = make_engine(1)
    runner.hold()
    jobs = [engine.submit(request(seeds=(1, 2))), engine.submit(request())]
    engine.drain()
    with pytest.raises(EngineClosed):
        engine.submit(request())
    assert engine.state.is_draining
    runner.go()
    assert [len(images_of(job)) for job in jobs] == [2, 1]


def test_nothing_of_a_request_is_kept_once_it_is_over(engine: Engine) -> None:
    done, left = engine.submit(request(previews=PREVIEWS)), engine.submit(request(seeds=tuple(range(9)), previews=PREVIEWS))
    images_of(done)
    engine.cancel(left)
    images_of(engine.submit(request()))
    kept = [weakref.ref(done), weakref.ref(left)]
    del done, left
    gc.collect()
    assert [ref() for ref in kept] == [None, None]


def test_every_measure_is_taken(make_engine: MakeEngine) -> None:
    notes = Notes()
    engine = make_engine(4, None, notes)
    started = time.monotonic()
    images_of(engine.submit(request(seeds=(1, 2))))
    gone = engine.submit(request(seeds=(3, 4, 5)))
    wait_for(gone, lambda event: isinstance(event, Progress))
    engine.cancel(gone)
    whole = time.monotonic() - started
    state = engine.state
    assert notes.counts == {"drawn": 2, "cancelled": 3}
    assert (state.images_drawn, state.images_cancelled, state.images_failed) == (2, 3, 0)
    assert len(notes.seconds["waited"]) == 5
    assert len(notes.seconds["image"]) == 2
    assert len(notes.seconds["step"]) >= 256
    assert 0 < state.seconds_per_step < state.seconds_per_image < whole
    assert 0 <= state.seconds_in_queue < whole


def test_a_step_under_way_has_its_clock_seen(engine: Engine, runner: WatchedRunner) -> None:
    runner.hold()
    job = engine.submit(request())
    runner.wait_until_held()
    first = engine.state.seconds_in_step
    assert engine.state.seconds_in_step > first > 0
    runner.go()
    (image,) = [event for event in job.events() if isinstance(event, ImageDone)]
    assert image.seed == 1
    engine.close()
    assert engine.state.seconds_in_step == 0
    assert not engine.state.is_alive
