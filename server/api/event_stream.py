"""Answer server-sent events while images are drawn: frame them, keep a silent stream alive, end it when its caller goes."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from itertools import chain
from time import monotonic
from typing import Any, Protocol

from flask import Response, stream_with_context
from pydantic import BaseModel

from dalle_model import Event
from server.api.disconnects import is_gone
from server.api.errors import Answer, explain

TICK_SECONDS = 1.0  # to be given to `DalleModel.stream`: how soon a caller who has gone is noticed
KEEP_ALIVE_SECONDS = 5.0
# A comment: it resets a client's read timeout, and no client takes it for an event.
KEEP_ALIVE = b": ka\n\n"

# For proxies: nginx would gather the events until they fill a buffer.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Writer(Protocol):
    """Write what one route says of a drawing, as framed events."""

    def write(self, event: Event) -> Iterator[bytes]:
        """Write what there is to say of an event, if anything."""

    def end(self) -> Iterator[bytes]:
        """Write what there is to say once everything is drawn."""

    def fail(self, answer: Answer) -> bytes:
        """Write that the drawing failed."""


def frame(name: str, data: BaseModel | dict[str, Any]) -> bytes:
    """Write one event. JSON has no line break, and the blank line at the end is what makes a client take it."""
    written = data.model_dump_json() if isinstance(data, BaseModel) else json.dumps(data)
    return f"event: {name}\ndata: {written}\n\n".encode()


def stream_events(events: Generator[Event, None, None], writer: Writer) -> Response:
    """Answer with a drawing's events as they come.

    What refuses the request does so before the first event, and is raised here, for an ordinary error's status; what fails
    later is written into the stream, and ends it. However it ends, `events` is closed.
    """
    first = next(events)
    response = Response(stream_with_context(_body(first, events, writer)), mimetype="text/event-stream", headers=_HEADERS)
    # A body that was never begun has no `finally`.
    response.call_on_close(events.close)
    return response


def _body(first: Event, events: Generator[Event, None, None], writer: Writer) -> Iterator[bytes]:
    written_at = monotonic()
    try:
        for event in chain([first], events):
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
        events.close()
