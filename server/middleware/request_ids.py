"""Request ids: in a header of every answer, in every line of the log, in the message of an internal error."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar

from flask import Flask, Response, request

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NONE = "-"

# Not Flask's g, which is gone before a streamed answer ends.
_current: ContextVar[str] = ContextVar("request_id", default=_NONE)


def request_id() -> str:
    """Return the id of the current request, `-` outside of one."""
    return _current.get()


def begin_request(client_id: str | None = None) -> str:
    """Set the id of the request that this thread now serves: the client's own if it is well-formed, or a new one."""
    name = client_id if client_id is not None and _WELL_FORMED.fullmatch(client_id) else secrets.token_hex(6)
    _current.set(name)
    return name


def end_request() -> None:
    """Clear the id, because this thread serves no request."""
    _current.set(_NONE)


def identify_requests(app: Flask) -> None:
    """Give each request of an app an id: the client's own `X-Request-Id` if it is well-formed. Register before all else."""
    app.before_request(_begin)
    app.after_request(_end)


def when_sent(response: Response, then: Callable[[], None]) -> None:
    """Call `then` when an answer is complete: at once, or at the end of a stream."""
    if response.is_streamed:
        response.call_on_close(then)
    else:
        then()


def _begin() -> None:
    begin_request(request.headers.get("X-Request-Id"))


def _end(response: Response) -> Response:
    response.headers["X-Request-Id"] = request_id()
    when_sent(response, end_request)
    return response
