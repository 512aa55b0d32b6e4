"""The engine's queue and its figures. Fairness, deadlines and draining are tested on the real process, in tests/end_to_end."""

from __future__ import annotations

import gc
import time
import weakref

import pytest

from engine.batching.engine import Engine
from engine.errors import QueueFull
from engine.events import Progress
from engine.request import PREVIEWS
from tests.engine.conftest import MakeEngine
from tests.engine.watched_runner import WatchedRunner, images_of, request, wait_for


def test_a_request_above_the_limit_is_refused_and_leaves_nothing(make_engine: MakeEngine, runner: WatchedRunner) -> None:
    engine = make_engine(2, 3)
    images_of(engine.submit(request()))  # to measure the speed
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


def test_nothing_of_a_request_is_kept_after_its_end(engine: Engine) -> None:
    done, left = engine.submit(request(previews=PREVIEWS)), engine.submit(request(seeds=tuple(range(9)), previews=PREVIEWS))
    images_of(done)
    engine.cancel(left)
    images_of(engine.submit(request()))
    kept = [weakref.ref(done), weakref.ref(left)]
    del done, left
    gc.collect()
    assert [ref() for ref in kept] == [None, None]


def test_images_are_counted_and_times_measured(engine: Engine) -> None:
    started = time.monotonic()
    images_of(engine.submit(request(seeds=(1, 2))))
    job = engine.submit(request(seeds=(3, 4, 5)))
    wait_for(job, lambda event: isinstance(event, Progress))
    engine.cancel(job)
    whole = time.monotonic() - started
    state = engine.state
    assert (state.images_drawn, state.images_cancelled, state.images_failed) == (2, 3, 0)
    assert 0 < state.seconds_per_step < state.seconds_per_image < whole
    assert 0 <= state.seconds_in_queue < whole
