"""An OpenAPI 3.1 document, built from an app's routes, their operations, and the pydantic models that validate them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from consts import MAX_BODY_BYTES
from server.api.error_bodies import error_model
from server.api.operation import A1111, CLASSIC, JSON, OPENAI, OPERATIONS, Operation, Reply, operation_of
from server.config.settings import Settings
from server.middleware.keys import needs_key

EVENTS = "text/event-stream"

_Mode = Literal["validation", "serialization"]

_TAGS = (OPENAI, CLASSIC, A1111, OPERATIONS)
_ERRORS = {
    400: "The body is not a JSON object, a field is invalid, or the route is not supported. The error says which.",
    401: "An API key is required, and it was missing or wrong.",
    404: "There is nothing of this name.",
    413: f"The body is over {MAX_BODY_BYTES} bytes.",
    429: "Too many images wait already. Retry-After says in how many seconds there will be room.",
    500: "Something failed inside the server. The log has it under the request's id.",
    503: "The server is stopping. Retry-After says when to ask again.",
    504: "The images were not done within the time limit of a request.",
}


@dataclass(frozen=True)
class _Route:
    """A method at a path, with its operation."""

    method: str
    path: str
    operation: Operation
    needs_key: bool

    @property
    def replies(self) -> dict[int, Reply]:
        """Every status that the route answers with, errors included."""
        shape = error_model(self.path)
        statuses = sorted({*self.operation.errors, 500, *([401] if self.needs_key else [])})
        return {**self.operation.replies, **{status: Reply(_ERRORS[status], {JSON: shape}) for status in statuses}}


def build_document(
    app: Flask, settings: Settings, info: Mapping[str, Any], security_schemes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the document of the routes that are registered with an app by now.

    `security_schemes` are the ways to send an API key, described for the case that the settings have keys.
    """
    routes = _routes(app, settings)
    schemas = _Schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        written = _operation(route, schemas)
        if route.needs_key:
            written["security"] = [{name: []} for name in security_schemes]
        paths.setdefault(route.path, {})[route.method] = written
    components: dict[str, Any] = {"schemas": schemas.components}
    if settings.api_keys:
        components["securitySchemes"] = dict(security_schemes)
    return {"openapi": "3.1.0", "info": dict(info), "paths": paths, "components": components}


def _routes(app: Flask, settings: Settings) -> list[_Route]:
    """Return the routes that have an operation, ordered by tag."""
    found = [
        _Route(method.lower(), _path(rule), operation, needs_key(rule, settings))
        for rule in app.url_map.iter_rules()
        if (operation := operation_of(app.view_functions[rule.endpoint])) is not None
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    return sorted(found, key=lambda route: _TAGS.index(route.operation.tag))


def _path(rule: Rule) -> str:
    """Return a rule as OpenAPI writes paths: `<path:model_id>` is `{model_id}`."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


class _Schemas:
    """The schemas of every model that the routes use, each once."""

    def __init__(self, routes: Iterable[_Route]) -> None:
        used: dict[tuple[type[BaseModel], _Mode], None] = {}
        for route in routes:
            if route.operation.body is not None:
                used[route.operation.body, "validation"] = None
            for reply in route.replies.values():
                models = [*reply.content.values(), *reply.events.values()]
                used |= {(model, "serialization"): None for model in models if model is not None}
        self._references, written = models_json_schema(list(used), ref_template="#/components/schemas/{model}")
        self.components: dict[str, Any] = written["$defs"]

    def reference(self, model: type[BaseModel], mode: _Mode) -> dict[str, Any]:
        return dict(self._references[model, mode])


def _operation(route: _Route, schemas: _Schemas) -> dict[str, Any]:
    operation = route.operation
    written: dict[str, Any] = {
        "operationId": f"{route.method}{re.sub('[^a-z0-9]+', '_', route.path.lower()).rstrip('_')}",
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        written["description"] = operation.description
    if operation.parameters:
        written["parameters"] = [_parameter(name, meaning) for name, meaning in operation.parameters.items()]
    if operation.body is not None:
        content = {JSON: {"schema": schemas.reference(operation.body, "validation")}}
        written["requestBody"] = {"required": True, "content": content}
    written["responses"] = {str(status): _reply(reply, schemas) for status, reply in route.replies.items()}
    return written


def _parameter(name: str, meaning: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": meaning, "schema": schema}


def _reply(reply: Reply, schemas: _Schemas) -> dict[str, Any]:
    content = {
        media_type: {"schema": _text(media_type) if model is None else schemas.reference(model, "serialization")}
        for media_type, model in reply.content.items()
    }
    if reply.events:
        # OpenAPI 3.1 cannot describe a stream: the schema is that of each event, as in 3.2's `itemSchema`.
        content[EVENTS] = {"schema": {"oneOf": [_event(name, model, schemas) for name, model in reply.events.items()]}}
    return {"description": reply.description, **({"content": content} if content else {})}


def _text(media_type: str) -> dict[str, Any]:
    """Return the schema of an answer without a model: any JSON, or text."""
    return {} if media_type == JSON else {"type": "string"}


def _event(name: str, model: type[BaseModel], schemas: _Schemas) -> dict[str, Any]:
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": schemas.reference(model, "serialization")}
    return {"type": "object", "properties": {"event": {"const": name}, "data": data}, "required": ["event", "data"]}
