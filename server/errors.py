"""Answer every error as JSON: the one table from exception to status and sentence.

InvalidRequest               400  its own sentence, and the field
404, 405, 413, ... (Flask)   as is, with a sentence of ours
QueueFull                    429  a fixed sentence, and Retry-After by the measured speed
Cancelled                    499  a fixed sentence that nobody reads: the caller has gone
EngineClosed                 503  a fixed sentence, and Retry-After
DeadlineExceeded             504  a fixed sentence
GenerationFailed, any other  500  a fixed sentence and the request's id; the traceback is in the log only
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from consts import MAX_BODY_BYTES, RESTART_SECONDS
from dalle_model import Cancelled, DeadlineExceeded, EngineClosed, GenerationFailed, InvalidRequest, QueueFull
from server.request_ids import request_id

log = logging.getLogger("dalle.errors")


@dataclass(frozen=True)
class Answer:
    """Hold what a kind of error is answered with."""

    status: int
    message: str
    has_traceback: bool = False  # then the log gets it, and the caller the request's id
    retry_after: int | None = None  # seconds; an error that knows better has its own


_ANSWERS: dict[type[Exception], Answer] = {
    GenerationFailed: Answer(500, "The images could not be drawn: something failed inside the server.", has_traceback=True),
    QueueFull: Answer(429, "Too many images wait to be drawn already: ask again in a while."),
    Cancelled: Answer(499, "The caller has gone."),
    EngineClosed: Answer(503, "The server is stopping and draws no more images.", retry_after=RESTART_SECONDS),
    DeadlineExceeded: Answer(504, "The images were not done in the time that a request has."),
    Exception: Answer(500, "Something failed inside the server.", has_traceback=True),
}

_HTTP_MESSAGES = {
    404: "There is nothing at {path}. Images are drawn at POST /dalle.",
    405: "{path} does not take {method}.",
    413: f"The body is too large: at most {MAX_BODY_BYTES} bytes are accepted.",
}


def error_body(message: str, field: str | None = None, **extra: str) -> dict[str, dict[str, str | None]]:
    """Build the body that every error has."""
    return {"error": {"message": message, "field": field, **extra}}


def answer_errors(app: Flask) -> None:
    """Register the table with an app."""
    app.register_error_handler(InvalidRequest, _answer_invalid)
    app.register_error_handler(HTTPException, _answer_http)
    for kind, answer in _ANSWERS.items():
        app.register_error_handler(kind, _handler(answer))


def _answer_invalid(error: InvalidRequest) -> tuple[Response, int]:
    return jsonify(error_body(error.message, error.field)), 400


def _answer_http(error: HTTPException) -> Response:
    """Keep the status and headers (405's Allow, say), and put JSON in place of the page."""
    status = error.code or 500
    response = Response(status=status, headers=error.get_response().headers)
    known = _HTTP_MESSAGES.get(status)
    message = known.format(path=request.path, method=request.method) if known else error.description or error.name
    response.data = jsonify(error_body(message)).data
    response.content_type = "application/json"
    return response


def _handler(answer: Answer) -> Callable[[Exception], tuple[Response, int]]:
    def handle(error: Exception) -> tuple[Response, int]:
        if not answer.has_traceback:
            response = jsonify(error_body(answer.message))
            retry_after = error.retry_after if isinstance(error, QueueFull) else answer.retry_after
            if retry_after is not None:
                response.headers["Retry-After"] = str(retry_after)
            return response, answer.status
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return jsonify(
            error_body(f"{answer.message} Request {request_id()} in the log tells more.", request_id=request_id())
        ), answer.status

    return handle
