"""Hold the line of events between the engine's thread and a caller's. No model."""

from __future__ import annotations

import pytest

from engine.batching.job import Job
from engine.errors import EngineClosed
from engine.events import Progress, Tick
from engine.request import DrawingRequest


def job() -> Job:
    return Job(DrawingRequest("a circle", (1,)), [0, 2])


def test_events_come_in_order_until_the_end() -> None:
    one = job()
    one.tell(Progress(0, 8))
    one.tell(Progress(0, 16))
    one.finish()
    assert list(one.events()) == [Progress(0, 8), Progress(0, 16)]


def test_a_tick_comes_where_nothing_happens_and_then_what_does() -> None:
    one = job()
    events = one.events(tick=0.01)
    assert next(events) == Tick()
    one.tell(Progress(0, 8))
    assert Progress(0, 8) in (next(events), next(events))


def test_an_error_ends_the_events() -> None:
    one = job()
    one.finish(EngineClosed("closed"))
    with pytest.raises(EngineClosed):
        list(one.events())
