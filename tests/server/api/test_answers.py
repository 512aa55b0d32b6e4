from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from pydantic import BaseModel
from werkzeug.test import TestResponse

from dalle_model import Drawing, DrawingRequest, Event, GenerationFailed, Progress, Queued, QueueFull, Tick
from server.api import answers
from server.api.answers import answer_drawing, frame
from server.api.errors import ErrorAnswer


class Text(BaseModel):
    text: str


class PositionWriter:
    """A dialect with events for a place in the queue and the end, and none for progress."""

    def answer(self) -> Text:
        return Text(text="done")

    def write(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Queued):
            yield frame("queued", {"position": event.position})

    def end(self) -> Iterator[bytes]:
        yield frame("done", {})

    def fail(self, answer: ErrorAnswer) -> bytes:
        return frame("error", answer.body)


class FakeJob:
    """The engine's side of a drawing that yields the given events."""

    def __init__(self, *events: Event | Exception) -> None:
        self.is_cancelled = False
        self._events = events

    def events(self, tick: float | None = None, *, progress: bool = True) -> Iterator[Event]:
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield event

    def cancel(self) -> None:
        self.is_cancelled = True


Serve = Callable[..., TestResponse]


@pytest.fixture
def serve(app: Flask) -> Serve:
    """Return a function that serves a drawing's events."""

    def serve(job: FakeJob, *, is_streamed: bool = True, **more: Any) -> TestResponse:
        drawing = Drawing(DrawingRequest("a red circle", (1,)), "Tiny", job, job.cancel)
        app.add_url_rule("/drawing", view_func=lambda: answer_drawing(drawing, PositionWriter(), is_streamed))
        return app.test_client().get("/drawing", **more)

    return serve


def test_events_are_sent_in_order_and_each_ends_with_a_blank_line(serve: Serve) -> None:
    job = FakeJob(Queued(2), Queued(0), Progress(0, 8))
    answer = serve(job)
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-Id"]
    assert answer.data == (
        b'event: queued\ndata: {"position": 2}\n\nevent: queued\ndata: {"position": 0}\n\nevent: done\ndata: {}\n\n'
    )
    assert job.is_cancelled


def test_without_a_stream_the_answer_comes_at_the_end(serve: Serve) -> None:
    job = FakeJob(Queued(0), Progress(0, 8))
    answer = serve(job, is_streamed=False)
    assert (answer.status_code, answer.data) == (200, b'{"text":"done"}')
    assert job.is_cancelled  # without effect, as the drawing is done


def test_without_a_stream_an_error_sets_the_status(serve: Serve) -> None:
    answer = serve(FakeJob(Queued(0), QueueFull(7)), is_streamed=False)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert answer.headers["Content-Type"] == "application/json"


def test_a_failure_during_a_stream_is_its_last_event(serve: Serve) -> None:
    job = FakeJob(Queued(0), GenerationFailed("secret"), Queued(9))
    answer = serve(job)
    assert answer.status_code == 200
    _, error, rest = answer.text.split("\n\n")
    assert error.startswith('event: error\ndata: {"error": {"message": "The images could not be drawn')
    assert answer.headers["X-Request-Id"] in error
    assert "secret" not in answer.text
    assert rest == ""
    assert job.is_cancelled


def test_a_comment_is_sent_after_five_seconds_without_an_event(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is read at each event without a frame, and after each write."""
    times = iter([0.0, *(4.9,), *(5.0, 5.0), *(9.9,), *(10.0, 10.0), 10.1, 10.2])
    monkeypatch.setattr(answers, "monotonic", lambda: next(times))
    answer = serve(FakeJob(Tick(), Progress(0, 8), Tick(), Tick(), Queued(0)))
    assert answer.data.startswith(b": ka\n\n: ka\n\nevent: queued")


def test_a_client_that_has_gone_cancels_the_drawing(serve: Serve) -> None:
    job = FakeJob(Queued(1), Queued(0))
    answer = serve(job, environ_overrides={"waitress.client_disconnected": lambda: True})
    assert answer.data == b""
    assert job.is_cancelled


def test_closing_a_stream_that_was_never_read_cancels_the_drawing(serve: Serve) -> None:
    job = FakeJob(Queued(1), Queued(0))
    answer = serve(job, buffered=False)
    assert not job.is_cancelled
    answer.close()
    assert job.is_cancelled
