"""Build an OpenAPI 3.1 document from operations and the pydantic models that validate them: JSON Schema is what both speak."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_Mode = Literal["validation", "serialization"]

JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(frozen=True)
class Reply:
    """Describe what a status means, and what comes with it.

    `content` has a model by media type, or None for text or bytes; `events` the models of server-sent events by name.
    """

    says: str
    content: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)
    events: Mapping[str, type[BaseModel]] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """Describe a method at a path; `{name}` in the path is a parameter, which `parameters` explains."""

    method: str
    path: str
    tag: str
    summary: str
    replies: Mapping[int, Reply]
    description: str = ""
    asked: type[BaseModel] | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    needs_key: bool = True


def build_document(
    operations: Sequence[Operation], info: Mapping[str, Any], security_schemes: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the document. Where there is no security scheme, no operation asks for a key."""
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        written = _operation(operation, schemas)
        if security_schemes and operation.needs_key:
            written["security"] = [{name: []} for name in security_schemes]
        paths.setdefault(operation.path, {})[operation.method] = written
    components: dict[str, Any] = {"schemas": schemas.components}
    if security_schemes:
        components["securitySchemes"] = dict(security_schemes)
    return {"openapi": "3.1.0", "info": dict(info), "paths": paths, "components": components}


class _Schemas:
    """Hold the schemas of every model that the operations name, each once."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        used: dict[tuple[type[BaseModel], _Mode], None] = {}
        for operation in operations:
            if operation.asked is not None:
                used[operation.asked, "validation"] = None
            for reply in operation.replies.values():
                models = [*reply.content.values(), *reply.events.values()]
                used |= {(model, "serialization"): None for model in models if model is not None}
        self._references, written = models_json_schema(list(used), ref_template="#/components/schemas/{model}")
        self.components: dict[str, Any] = written["$defs"]

    def reference(self, model: type[BaseModel], mode: _Mode) -> dict[str, Any]:
        return dict(self._references[model, mode])


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    written: dict[str, Any] = {
        "operationId": f"{operation.method}{re.sub('[^a-z0-9]+', '_', operation.path.lower()).rstrip('_')}",
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        written["description"] = operation.description
    names = re.findall(r"\{(\w+)\}", operation.path)
    if names:
        written["parameters"] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": operation.parameters[name],
                "schema": {"type": "string", "minLength": 1},
            }
            for name in names
        ]
    if operation.asked is not None:
        content = {JSON: {"schema": schemas.reference(operation.asked, "validation")}}
        written["requestBody"] = {"required": True, "content": content}
    written["responses"] = {str(status): _reply(reply, schemas) for status, reply in operation.replies.items()}
    return written


def _reply(reply: Reply, schemas: _Schemas) -> dict[str, Any]:
    content = {
        media_type: {"schema": {"type": "string"} if model is None else schemas.reference(model, "serialization")}
        for media_type, model in reply.content.items()
    }
    if reply.events:
        # OpenAPI 3.1 has no word for a stream: the schema is each event's, as 3.2's `itemSchema` is.
        content[EVENTS] = {"schema": {"oneOf": [_event(name, model, schemas) for name, model in reply.events.items()]}}
    return {"description": reply.says, **({"content": content} if content else {})}


def _event(name: str, model: type[BaseModel], schemas: _Schemas) -> dict[str, Any]:
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": schemas.reference(model, "serialization")}
    return {"type": "object", "properties": {"event": {"const": name}, "data": data}, "required": ["event", "data"]}
