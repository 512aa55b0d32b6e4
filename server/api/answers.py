"""The answer to a drawing: one JSON object when it is done, or server-sent events while it is drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import monotonic
from typing import Any, Protocol

from flask import Response, stream_with_context
from pydantic import BaseModel

from dalle_model import Drawing, Event
from server.api.disconnects import is_gone
from server.api.errors import ErrorAnswer, explain

TICK_SECONDS = 1.0  # how soon the server notices that a stream's client has gone
KEEP_ALIVE_SECONDS = 5.0
# A comment: it resets a client's read timeout, and clients do not take it for an event.
KEEP_ALIVE = b": ka\n\n"

# For proxies: nginx would hold events back until they fill a buffer.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class AnswerWriter(Protocol):
    """How one dialect writes the answer to a drawing, as JSON or as events."""

    def answer(self) -> BaseModel:
        """Return the answer to a finished drawing."""

    def write(self, event: Event) -> Iterator[bytes]:
        """Yield the server-sent events for an event of the drawing, if there are any."""

    def end(self) -> Iterator[bytes]:
        """Yield the last events, once everything is drawn."""

    def fail(self, answer: ErrorAnswer) -> bytes:
        """Return the event for an error."""


def answer_drawing(drawing: Drawing, writer: AnswerWriter, is_streamed: bool) -> Response:
    """Return the whole answer, or a stream of events. If the request ends early, the drawing is cancelled.

    Raises what `Drawing.result` raises. An error after a stream has begun is written into the stream, and ends it.
    """
    if is_streamed:
        response = Response(stream_with_context(_events(drawing, writer)), mimetype="text/event-stream", headers=_HEADERS)
        response.call_on_close(drawing.cancel)  # a generator that was never started runs no `finally`
        return response
    drawing.result(is_gone)
    return Response(writer.answer().model_dump_json(exclude_none=True), mimetype="application/json")


def frame(name: str, data: BaseModel | dict[str, Any]) -> bytes:
    """Return one server-sent event. JSON has no line break, and the blank line at the end marks the event's end."""
    written = data.model_dump_json() if isinstance(data, BaseModel) else json.dumps(data)
    return f"event: {name}\ndata: {written}\n\n".encode()


def _events(drawing: Drawing, writer: AnswerWriter) -> Iterator[bytes]:
    written_at = monotonic()
    try:
        for event in drawing.events(TICK_SECONDS):
            if is_gone():
                return
            written = b"".join(writer.write(event))
            if not written and monotonic() - written_at >= KEEP_ALIVE_SECONDS:
                written = KEEP_ALIVE
            if written:
                yield written
                written_at = monotonic()
        yield from writer.end()
    except Exception as error:
        yield writer.fail(explain(error))
    finally:
        drawing.cancel()
