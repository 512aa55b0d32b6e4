from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from flask import Flask
from pydantic import BaseModel
from werkzeug.test import TestResponse

from dalle_model import Event, GenerationFailed, Progress, Queued, QueueFull, Tick
from server.api import event_stream as sse
from server.api.errors import Answer
from server.api.event_stream import frame, stream_events


class Text(BaseModel):
    text: str


class PositionWriter:
    """Say a place in the line and the end, and nothing of progress."""

    def write(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Queued):
            yield frame("queued", {"position": event.position})

    def end(self) -> Iterator[bytes]:
        yield frame("done", {})

    def fail(self, answer: Answer) -> bytes:
        return frame("error", answer.body)


class Drawing:
    """Be a drawing of given events, which knows whether it was closed."""

    def __init__(self, *events: Event | Exception) -> None:
        self.is_closed = False
        self._events = events

    def events(self) -> Generator[Event, None, None]:
        try:
            for event in self._events:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.is_closed = True


Serve = Callable[..., TestResponse]


@pytest.fixture
def serve(app: Flask) -> Serve:
    """Serve a drawing's events at a path of its own."""

    def serve(drawing: Drawing, **more: Any) -> TestResponse:
        app.add_url_rule("/drawing", view_func=lambda: stream_events(drawing.events(), PositionWriter()))
        return app.test_client().get("/drawing", **more)

    return serve


def test_an_event_is_its_name_its_data_and_a_blank_line() -> None:
    assert frame("image", Text(text="two\nlines")) == b'event: image\ndata: {"text":"two\\nlines"}\n\n'


def test_events_come_in_their_order_and_the_last_ends_with_a_blank_line(serve: Serve) -> None:
    drawing = Drawing(Queued(2), Queued(0), Progress(0, 8))
    answer = serve(drawing)
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-Id"]
    assert answer.data == (
        b'event: queued\ndata: {"position": 2}\n\nevent: queued\ndata: {"position": 0}\n\nevent: done\ndata: {}\n\n'
    )
    assert drawing.is_closed


def test_what_refuses_a_request_has_a_status_of_its_own(serve: Serve) -> None:
    answer = serve(Drawing(QueueFull(7)))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert answer.headers["Content-Type"] == "application/json"


def test_what_fails_in_mid_stream_is_its_last_event(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    drawing = Drawing(Queued(0), GenerationFailed("secret"), Queued(9))
    answer = serve(drawing)
    assert answer.status_code == 200
    _, error, rest = answer.text.split("\n\n")
    assert error.startswith('event: error\ndata: {"error": {"message": "The images could not be drawn')
    assert answer.headers["X-Request-Id"] in error
    assert "secret" not in answer.text
    assert rest == ""
    assert drawing.is_closed


def test_silence_is_filled_with_comments_at_intervals(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each silent event asks for the time; what is written notes it."""
    times = iter([0.0, *(4.9,), *(5.0, 5.0), *(9.9,), *(10.0, 10.0), 10.1, 10.2])
    monkeypatch.setattr(sse, "monotonic", lambda: next(times))
    answer = serve(Drawing(Tick(), Progress(0, 8), Tick(), Tick(), Queued(0)))
    assert answer.data.startswith(b": ka\n\n: ka\n\nevent: queued")


def test_a_caller_who_has_gone_ends_the_drawing(serve: Serve) -> None:
    drawing = Drawing(Queued(1), Queued(0))
    answer = serve(drawing, environ_overrides={"waitress.client_disconnected": lambda: True})
    assert answer.data == b""
    assert drawing.is_closed


def test_a_body_that_is_never_read_is_closed_all_the_same(serve: Serve) -> None:
    drawing = Drawing(Queued(1), Queued(0))
    answer = serve(drawing, buffered=False)
    assert not drawing.is_closed
    answer.close()
    assert drawing.is_closed
