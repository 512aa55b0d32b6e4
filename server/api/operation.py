"""What the API's description says about a route, written beside the route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

ViewT = TypeVar("ViewT", bound=Callable[..., Any])

CLASSIC, OPENAI, A1111, OPERATIONS = "Classic", "OpenAI Images", "AUTOMATIC1111", "Operations"  # tags
JSON = "application/json"
DRAWING_ERRORS = (400, 413, 429, 503, 504)
STREAMED = "With `stream` the answer is server-sent events. A comment, `: ka`, comes when there is nothing else to send."

_ATTRIBUTE = "operation"


@dataclass(frozen=True)
class Reply:
    """What a status means, and what comes with it.

    `content` has a model for each media type, None for text or bytes. `events` has the models of server-sent events by name.
    """

    description: str
    content: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)
    events: Mapping[str, type[BaseModel]] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """A route's description. Its path, methods and need for a key are the route's own; 500 is an error of every route."""

    tag: str
    summary: str
    replies: Mapping[int, Reply]
    errors: tuple[int, ...] = ()
    description: str = ""
    body: type[BaseModel] | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)  # what each variable in the path is


def described(operation: Operation) -> Callable[[ViewT], ViewT]:
    """Return a decorator that attaches an operation to a view function."""

    def attach(view: ViewT) -> ViewT:
        setattr(view, _ATTRIBUTE, operation)
        return view

    return attach


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """Return the operation of a view function, None for a route that is not part of the API."""
    operation: Operation | None = getattr(view, _ATTRIBUTE, None)
    return operation
