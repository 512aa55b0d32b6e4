"""Give every request an id: in the answer's header, in every line of the log, in the sentence of an internal error."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar

from flask import Flask, Response, request

_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NONE = "-"

# Not Flask's g: a streamed answer is still being made when that is gone.
_current: ContextVar[str] = ContextVar("request_id", default=_NONE)


def request_id() -> str:
    """Name the request being served, `-` outside of one."""
    return _current.get()


def begin_request(asked: str | None = None) -> str:
    """Name the request that this thread now serves: as its caller asked, if that is sane, or anew."""
    name = asked if asked is not None and _SANE.fullmatch(asked) else secrets.token_hex(6)
    _current.set(name)
    return name


def end_request() -> None:
    """Say that this thread serves nobody."""
    _current.set(_NONE)


def identify_requests(app: Flask) -> None:
    """Register with an app, before all else: an id for each request, the caller's own `X-Request-Id` if it is sane."""
    app.before_request(_begin)
    app.after_request(_end)


def when_sent(response: Response, then: Callable[[], None]) -> None:
    """Call `then` when an answer is made: at once, or where it is streamed, at its end."""
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
