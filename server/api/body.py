"""Request bodies: strict JSON, validated once. Each fault is reported by its field and what the field accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, from_json

from dalle_model import InvalidRequest

BodyT = TypeVar("BodyT", bound="RequestBody")

_MAX_SHOWN_CHARACTERS = 60

_INTEGERS = (int, int | None)


class RequestBody(BaseModel):
    """The base of every route's body. Null means the same as leaving a field out, because many clients send it so."""

    # strict: true is not an integer, "4" is not a number. Unknown fields are ignored: clients of other servers send some.
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    accepted: ClassVar[Mapping[str, str]]  # field -> what it accepts, to be read after "must be"
    example: ClassVar[str]  # a valid body

    @model_validator(mode="before")
    @classmethod
    def _normalize(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Drop nulls and read 2.0 as 2: JSON has one kind of number, and JSON Schema calls both integers."""
        whole = {name for name, field in cls.model_fields.items() if field.annotation in _INTEGERS}
        return {
            name: int(value) if name in whole and isinstance(value, float) and value.is_integer() else value
            for name, value in fields.items()
            if value is not None
        }

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe what `_normalize` does: an optional field accepts null. Required fields come first."""
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        properties = schema["properties"]
        required = {name: properties.pop(name) for name in schema.get("required", [])}
        schema["properties"] = required | {name: _or_null(described) for name, described in properties.items()}
        return reference


def _or_null(described: dict[str, Any]) -> dict[str, Any]:
    """Return a field's schema that accepts null too, in as few words as JSON Schema allows, without a default of null."""
    kind, *_ = described.pop("anyOf", [{}])
    merged = {**described, **kind}
    if merged.get("default", ...) is None:
        del merged["default"]
    if "type" in merged:
        merged["type"] = [merged["type"], "null"]
    if "enum" in merged:
        merged["enum"] = [*merged["enum"], None]
    return merged


def read_body(model: type[BodyT], body: bytes) -> BodyT:
    """Parse and validate a body of any content type. Raises InvalidRequest with the field and what it accepts."""
    try:
        return model.model_validate(parse_object(body, model.example, model.accepted))
    except ValidationError as error:
        raise _invalid(model, error.errors(include_url=False)[0]) from None


def parse_object(body: bytes, example: str, accepted: Mapping[str, str]) -> dict[str, Any]:
    """Parse a body as one strict JSON object, whatever its content type.

    Raises InvalidRequest, which quotes `example`, or what `accepted` has for the field.
    """
    try:
        parsed = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        field = _field_not_finite(body)
        if field is not None:
            raise InvalidRequest(field, f"{field} must be {accepted.get(field, 'JSON')}: NaN and Infinity are not JSON") from None
        reason = "it is empty" if not body.strip() else str(error)
        raise InvalidRequest(None, f"The body must be a JSON object such as {example}: {reason}") from None
    if not isinstance(parsed, dict):
        raise InvalidRequest(None, f"The body must be a JSON object such as {example}, not {_show(parsed)}")
    return parsed


def _field_not_finite(body: bytes) -> str | None:
    """Return the field that is NaN or Infinity, if nothing else is wrong with the body."""
    try:
        parsed = from_json(body, allow_inf_nan=True)
    except ValueError:
        return None
    fields = parsed.items() if isinstance(parsed, dict) else ()
    return next((name for name, value in fields if isinstance(value, float) and not math.isfinite(value)), None)


def _invalid(model: type[RequestBody], error: ErrorDetails) -> InvalidRequest:
    field = str(error["loc"][0])
    if error["type"] == "missing":
        return InvalidRequest(field, f"{field} is required: {model.accepted[field]}")
    return InvalidRequest(field, f"{field} must be {model.accepted[field]}, not {_show(error['input'])}")


def _show(value: Any) -> str:
    """Return a JSON value as its sender wrote it, cut short; a long text as its length only."""
    if isinstance(value, str) and len(value) > _MAX_SHOWN_CHARACTERS:
        return f"{len(value)} characters"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= _MAX_SHOWN_CHARACTERS else f"{written[:_MAX_SHOWN_CHARACTERS]}..."
