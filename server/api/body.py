"""Request bodies: JSON or a form, validated once. Each fault is reported by its field and what the field accepts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import parse_qsl

from flask import request
from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, from_json

from dalle_model import InvalidRequest
from utils import parse_boolean

BodyT = TypeVar("BodyT", bound="RequestBody")

_MAX_SHOWN_CHARACTERS = 60
_ALIKE = 0.75  # how alike a misspelt field and a field are, as difflib measures it
_MOST_GUESSED = 20  # unknown fields that are compared
_ELSEWHERE = {"n": "num_images", "num_images": "n", "num_image": "n", "text": "prompt", "prompt": "text"}  # of two routes

_INTEGERS = (int, int | None)
_NUMBERS = (float, float | None)
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
_GZIP = b"\x1f\x8b"
_FORM = re.compile(rb"\s*[A-Za-z_][\w.-]*=")


class RequestBody(BaseModel):
    """The base of every route's body. Null means the same as leaving a field out, because many clients send it so."""

    # strict: true is not an integer. Unknown fields are ignored: clients of other servers send some.
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    accepted: ClassVar[Mapping[str, str]]  # field -> what it accepts, to be read after "must be"
    example: ClassVar[str]  # a valid body

    _warnings: tuple[str, ...] = PrivateAttr(())

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence about each unknown field whose name is nearly a field's: it may be a slip, so its sender should know."""
        return self._warnings

    @model_validator(mode="wrap")
    @classmethod
    def _note_slips(cls, fields: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        body = handler(fields)
        unknown = [name for name in fields if name not in cls.model_fields and len(name) <= _MAX_SHOWN_CHARACTERS]
        guesses = [(name, cls._field_like(name)) for name in unknown[:_MOST_GUESSED]]
        sentence = 'The field "{}" is unknown and was ignored: did you mean "{}"?'
        body._warnings = tuple(sentence.format(name, guess) for name, guess in guesses if guess)
        return body

    @classmethod
    def _field_like(cls, name: str) -> str | None:
        """Return the field that an unknown name may stand for."""
        close = get_close_matches(name.lower(), cls.model_fields, 1, _ALIKE)
        guess = close[0] if close else _ELSEWHERE.get(name)
        return guess if guess in cls.model_fields else None

    @model_validator(mode="before")
    @classmethod
    def _normalize(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Drop nulls, and read 2.0 and "2" as 2: JSON Schema calls 2.0 an integer, and many clients send numbers as text."""
        whole = {name for name, field in cls.model_fields.items() if field.annotation in _INTEGERS}
        return {name: _whole_number(value) if name in whole else value for name, value in fields.items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe what `_normalize` does: an optional field accepts null. Required fields come first."""
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        properties = schema["properties"]
        required = {name: properties.pop(name) for name in schema.get("required", [])}
        schema["properties"] = required | {name: _or_null(described) for name, described in properties.items()}
        return reference


def _whole_number(value: Any) -> Any:
    """Return a whole number that is written as 2.0 or "2" as an integer, any other value unchanged."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


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


def read_request(model: type[BodyT]) -> BodyT:
    """Read the current request's body: JSON of any content type, or a form. Raises InvalidRequest."""
    if request.mimetype == "multipart/form-data":
        return _validated(model, _typed(model, request.form.to_dict()))
    body = request.get_data(cache=False)
    # By its look too: curl and old clients send JSON as a form.
    if request.mimetype == "application/x-www-form-urlencoded" and _FORM.match(body):
        return _validated(model, _typed(model, _form_fields(body)))
    return read_body(model, body)


def _form_fields(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        raise InvalidRequest(None, "The form is not UTF-8: send it in UTF-8, percent-encoded") from None


def read_body(model: type[BodyT], body: bytes) -> BodyT:
    """Parse and validate a JSON body. Raises InvalidRequest with the field and what it accepts."""
    return _validated(model, parse_object(body, model.example, model.accepted))


def _validated(model: type[BodyT], fields: dict[str, Any]) -> BodyT:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _invalid(model, error.errors(include_url=False)[0]) from None


def _typed(model: type[RequestBody], form: dict[str, str]) -> dict[str, Any]:
    """Return a form's fields with the types of the model. An empty field counts as left out."""
    return {name: _value(model, name, text) for name, text in form.items() if text.strip() or name not in model.model_fields}


def _value(model: type[RequestBody], name: str, text: str) -> Any:
    annotation = model.model_fields[name].annotation if name in model.model_fields else None
    try:
        if annotation is bool:
            return parse_boolean(text)
        return float(text) if annotation in _NUMBERS else text
    except ValueError:
        return text  # refused with the field's name


def parse_object(body: bytes, example: str, accepted: Mapping[str, str]) -> dict[str, Any]:
    """Parse a body as one strict JSON object, in UTF-8, or in UTF-16 or UTF-32 as Flask's own `get_json` reads it.

    Raises InvalidRequest, which quotes `example`, or what `accepted` has for the field.
    """
    text = _decoded(body)
    try:
        parsed = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        field = _field_not_finite(text)
        if field is not None:
            raise InvalidRequest(field, f"{field} must be {accepted.get(field, 'JSON')}: NaN and Infinity are not JSON") from None
        raise InvalidRequest(None, f"The body must be a JSON object such as {example}: {_fault(body, error)}") from None
    if not isinstance(parsed, dict):
        raise InvalidRequest(None, f"The body must be a JSON object such as {example}, not {_show(parsed)}")
    return parsed


def _decoded(body: bytes) -> bytes | str:
    """Return a body as its encoding says, by a byte order mark or by zero bytes. A body that is not text stays as it is."""
    try:
        return body.decode(json.detect_encoding(body))
    except (UnicodeDecodeError, IndexError):
        return body


def _fault(body: bytes, error: ValueError) -> str:
    """Return what is wrong with a body that is not JSON, in words for the person who sent it."""
    start = body.strip()
    if not start:
        return "it is empty"
    if start.startswith(_GZIP):
        return "it is compressed with gzip; send it uncompressed"
    if start.startswith(b"'") or start.startswith(b"{'"):
        return 'it has single quotes; JSON needs double quotes, which the Windows shell wants written as \\"'
    try:
        body.decode()
    except UnicodeDecodeError as decoding:
        return f"it is not UTF-8 (byte {decoding.start} is {body[decoding.start]:#04x}); send it in UTF-8"
    place = re.search(r"line \d+ column \d+", str(error))
    return f"it is not JSON at {place[0]} ({str(error)[: place.start()].removesuffix(' at ')})" if place else str(error)


def _field_not_finite(text: bytes | str) -> str | None:
    """Return the field that is NaN or Infinity, if nothing else is wrong with the body."""
    try:
        parsed = from_json(text, allow_inf_nan=True)
    except ValueError:
        return None
    fields = parsed.items() if isinstance(parsed, dict) else ()
    return next((name for name, value in fields if isinstance(value, float) and not math.isfinite(value)), None)


def _invalid(model: type[RequestBody], error: ErrorDetails) -> InvalidRequest:
    field = str(error["loc"][0])
    if error["type"] == "missing":
        given = error["input"] if isinstance(error["input"], dict) else {}
        slip = next((name for name in given if len(name) <= _MAX_SHOWN_CHARACTERS and model._field_like(name) == field), None)
        hint = "" if slip is None else f' (the field "{slip}" is unknown: did you mean "{field}"?)'
        return InvalidRequest(field, f"{field} is required: {model.accepted[field]}{hint}")
    return InvalidRequest(field, f"{field} must be {model.accepted[field]}, not {_show(error['input'])}")


def _show(value: Any) -> str:
    """Return a JSON value as its sender wrote it, cut short; a long text as its length only."""
    if isinstance(value, str) and len(value) > _MAX_SHOWN_CHARACTERS:
        return f"{len(value)} characters"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= _MAX_SHOWN_CHARACTERS else f"{written[:_MAX_SHOWN_CHARACTERS]}..."
