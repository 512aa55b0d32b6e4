"""Bodies of errors, in the shape that each dialect's clients read: OpenAI's, AUTOMATIC1111's, else the classic one."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, Field
from werkzeug.http import HTTP_STATUS_CODES

_A1111_PREFIX = "/sdapi/"
_OPENAI_PATH = re.compile(r"/(v1|openai|models|images/(generations|edits|variations))(/|$)")

# status -> what OpenAI's shape calls `type` and `code`
_KINDS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    413: ("invalid_request_error", "body_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "stopping"),
    504: ("server_error", "deadline_exceeded"),
}


class ClassicError(BaseModel):
    """What is wrong, with which field, and the id under which the log has an internal error."""

    message: str
    field: str | None
    request_id: str | None = Field(default=None, description="only where something failed inside the server")


class ClassicErrorBody(BaseModel):
    """An error of the classic routes."""

    error: ClassicError


class OpenAIError(BaseModel):
    """What is wrong, with the fields of OpenAI's API."""

    message: str
    type: str
    param: str | None = Field(description="the field that is wrong")
    code: str | None


class OpenAIErrorBody(BaseModel):
    """An error of the routes under `/v1`."""

    error: OpenAIError


class OpenAIErrorEvent(OpenAIErrorBody):
    """The end of a stream in which something failed."""

    type: Literal["error"] = "error"


class A1111Error(BaseModel):
    """An error of the routes under `/sdapi`, as AUTOMATIC1111's web UI answers it."""

    error: str
    detail: str
    body: str = ""
    errors: str


def is_openai_path(path: str) -> bool:
    """Return whether a path's errors have OpenAI's shape. Clients whose base URL lacks `/v1`, and Azure's, count too."""
    return _OPENAI_PATH.match(path) is not None


def drawing_route(path: str) -> str:
    """Return the drawing route of a path's dialect."""
    if path.startswith(_A1111_PREFIX):
        return "/sdapi/v1/txt2img"
    return "/v1/images/generations" if is_openai_path(path) else "/dalle"


def error_model(path: str) -> type[BaseModel]:
    """Return the shape of errors at a path."""
    if path.startswith(_A1111_PREFIX):
        return A1111Error
    return OpenAIErrorBody if is_openai_path(path) else ClassicErrorBody


def error_body(
    path: str, status: int, message: str, field: str | None = None, *, code: str | None = None, request_id: str | None = None
) -> dict[str, Any]:
    """Return the body of an error at a path. `code` replaces the status's usual code."""
    if is_openai_path(path):
        kind, usual_code = _KINDS.get(status, ("invalid_request_error" if status < 500 else "server_error", None))
        error = OpenAIError(message=message, type=kind, param=field, code=code or usual_code)
        return OpenAIErrorBody(error=error).model_dump()
    if path.startswith(_A1111_PREFIX):
        name = HTTP_STATUS_CODES.get(status, "Error")
        return A1111Error(error=name, detail=message, errors=message).model_dump()
    known = {} if request_id is None else {"request_id": request_id}
    return ClassicErrorBody(error=ClassicError(message=message, field=field, **known)).model_dump(exclude_unset=True)
