"""Errors answered as JSON: the one table from exception to status and message.

InvalidRequest               400  its own message, and the field
404, 405, 413, ... (Flask)   the same status, a message of ours
QueueFull                    429  a fixed message that names the limit, and Retry-After from the measured speed
Cancelled                    499  a fixed message that nobody reads: the client has gone
EngineClosed                 503  a fixed message, and Retry-After
ForkedProcess                503  a fixed message with the remedy
DeadlineExceeded             504  a fixed message
GenerationFailed, any other  500  a fixed message and the request's id; the traceback is in the log only

`explain` returns the answer, also inside a stream. `server.api.error_bodies` has the bodies.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as field_of
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from consts import MAX_BODY_BYTES, RESTART_SECONDS
from dalle_model import (
    FORKED,
    CallerQueueFull,
    Cancelled,
    DeadlineExceeded,
    EngineClosed,
    ForkedProcess,
    GenerationFailed,
    InvalidRequest,
    QueueFull,
)
from server.api.error_bodies import drawing_route, error_body
from server.middleware.callers import Limit, note_refusal
from server.middleware.request_ids import request_id

log = logging.getLogger("dalle.errors")

# OpenAI's client retries after any 5xx, unless a header forbids it.
_NO_RETRY = {"X-Should-Retry": "false"}


@dataclass(frozen=True)
class ErrorAnswer:
    """The answer to an error."""

    status: int
    message: str
    field: str | None = None
    code: str | None = None  # OpenAI's code, if the status's usual one is not close enough
    headers: Mapping[str, str] = field_of(default_factory=dict)
    limit: Limit | None = None  # that refuses the request
    request_id: str | None = None  # if the log has a traceback

    @property
    def body(self) -> dict[str, Any]:
        """The body, in the shape of the request's dialect."""
        return error_body(request.path, self.status, self.message, self.field, code=self.code, request_id=self.request_id)


class ModelNotFound(HTTPException):
    """No model of this name is loaded."""

    code = 404
    field = "model"
    openai_code = "model_not_found"


class NotSupported(HTTPException):
    """A route of the dialect that this server does not have. Not 501, which clients retry."""

    code = 400
    openai_code = "not_supported"


_ANSWERS: dict[type[Exception], ErrorAnswer] = {
    GenerationFailed: ErrorAnswer(500, "The images could not be drawn: something failed inside the server."),
    QueueFull: ErrorAnswer(
        429, "Too many images of all callers wait to be drawn already: try again later.", code="queue_full", limit="queue"
    ),
    CallerQueueFull: ErrorAnswer(
        429,
        "Too many images of yours wait to be drawn already (--max_queue_per_caller): try again later.",
        code="caller_queue_full",
        limit="caller",
    ),
    Cancelled: ErrorAnswer(499, "The client has closed the connection."),
    ForkedProcess: ErrorAnswer(503, f"{FORKED[0].upper()}{FORKED[1:]}.", headers=_NO_RETRY),
    EngineClosed: ErrorAnswer(
        503, "The server is stopping and draws no more images.", headers={"Retry-After": str(RESTART_SECONDS)}
    ),
    DeadlineExceeded: ErrorAnswer(504, "The images were not done within the time limit of a request.", headers=_NO_RETRY),
    Exception: ErrorAnswer(500, "Something failed inside the server."),
}

BODY_TOO_LARGE = f"The body is too large: at most {MAX_BODY_BYTES} bytes are accepted."
_MAX_PATH = 100  # characters of a path that an answer repeats
_HTTP_MESSAGES = {
    404: "There is nothing at {path}. Images are drawn at POST {route}.",
    405: "{path} does not take {method}: use {methods}.",
    413: BODY_TOO_LARGE,
}


def answer_errors(app: Flask) -> None:
    """Make an app answer its errors by the table."""
    app.register_error_handler(Exception, _answer)


def explain(error: Exception) -> ErrorAnswer:
    """Return the answer to an error. An internal error is logged with its traceback."""
    if isinstance(error, InvalidRequest):
        return ErrorAnswer(400, error.message, error.field)
    if isinstance(error, HTTPException):
        return _explain_http(error)
    answer = next(_ANSWERS[kind] for kind in type(error).__mro__ if kind in _ANSWERS)
    if isinstance(error, QueueFull):
        return replace(answer, headers={"Retry-After": str(error.retry_after)})
    if answer.status != 500:
        return answer
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    known = request_id()
    return replace(answer, message=f"{answer.message} See request {known} in the log.", request_id=known)


def _explain_http(error: HTTPException) -> ErrorAnswer:
    """Return the answer to Flask's own error: its status and headers (405's Allow, for one) with a message of ours."""
    status = error.code or 500
    headers = {name: value for name, value in error.get_response().headers if name not in {"Content-Type", "Content-Length"}}
    sentence = error.description or error.name
    if status in _HTTP_MESSAGES and error.description == type(error).description:
        route = drawing_route(request.path)
        methods = " or ".join(sorted(set(getattr(error, "valid_methods", None) or ()) - {"HEAD", "OPTIONS"}))
        path = request.path if len(request.path) <= _MAX_PATH else f"{request.path[:_MAX_PATH]}..."
        sentence = _HTTP_MESSAGES[status].format(path=path, method=request.method, methods=methods, route=route)
    return ErrorAnswer(status, sentence, getattr(error, "field", None), getattr(error, "openai_code", None), headers)


def _answer(error: Exception) -> Response:
    answer = explain(error)
    if answer.limit is not None:
        note_refusal(answer.limit)
    response = Response(json.dumps(answer.body), answer.status, mimetype="application/json")
    response.headers.update(answer.headers)
    return response
