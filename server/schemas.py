"""Validate a request's body once, into a typed, frozen request; and name the fields of an answer."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, from_json

from consts import (
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_SUPERCONDITION_FACTOR,
    MAX_TEMPERATURE,
    MAX_TOP_K,
    MIN_SUPERCONDITION_FACTOR,
    MIN_TEMPERATURE,
    ImageFormat,
)
from dalle_model import InvalidRequest
from utils import parse_image_format


def _image_format(value: Any) -> Any:
    return parse_image_format(value) if isinstance(value, str) else value


class DalleRequest(BaseModel):
    """Hold what `POST /dalle` is asked. None means that the model or the server has its own default."""

    # strict: true is no integer, "4" is no number. Unknown fields are ignored: clients of other servers send some.
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    text: str = Field(description="what to draw", min_length=1, max_length=MAX_PROMPT_CHARACTERS)
    num_images: int = Field(default=1, description="how many images to draw", ge=1)
    seed: int | None = Field(default=None, description="seed of the first image; image i has seed + i", ge=0, le=MAX_SEED)
    temperature: float | None = Field(
        default=None,
        description="above 1 more varied, below 1 safer",
        ge=MIN_TEMPERATURE,
        le=MAX_TEMPERATURE,
        allow_inf_nan=False,
    )
    top_k: int | None = Field(default=None, description="draw from the k likeliest tokens", ge=1, le=MAX_TOP_K)
    supercondition_factor: float | None = Field(
        default=None,
        description="guidance: how closely to follow the text",
        ge=MIN_SUPERCONDITION_FACTOR,
        le=MAX_SUPERCONDITION_FACTOR,
        allow_inf_nan=False,
        validation_alias=AliasChoices("supercondition_factor", "guidance"),
    )
    img_format: Annotated[ImageFormat, BeforeValidator(_image_format)] | None = Field(
        default=None, description="jpeg, png or webp"
    )
    grid: bool = Field(default=False, description="answer all images as one sheet")
    seamless: bool = Field(default=False, description="draw all images as one picture without seams")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Take null as left out, as many clients mean it."""
        present = {name: value for name, value in fields.items() if value is not None}
        if isinstance(present.get("text"), str):
            present["text"] = present["text"].strip()
        return present


class DalleAnswer(BaseModel):
    """Hold what `POST /dalle` answers."""

    generatedImgs: list[str] = Field(description="the images in base64, without a prefix")
    generatedImages: list[str] = Field(description="the same list, under the name that dalle-backend's clients read")
    generatedImgsFormat: ImageFormat = Field(description="jpeg, png or webp")
    seeds: list[int] = Field(description="each image's seed")
    model: str = Field(description="the model that drew")
    warnings: list[str] | None = Field(default=None, description="what went wrong beside the drawing; absent if nothing did")


_NUMBER = "a number from {} to {}"
_ACCEPTED = {
    "text": f"a string of 1 to {MAX_PROMPT_CHARACTERS} characters that is not blank",
    "num_images": "a whole number from 1 to {max_images}",
    "seed": f"a whole number from 0 to {MAX_SEED}",
    "temperature": _NUMBER.format(MIN_TEMPERATURE, MAX_TEMPERATURE),
    "top_k": f"a whole number from 1 to {MAX_TOP_K}",
    "supercondition_factor": _NUMBER.format(MIN_SUPERCONDITION_FACTOR, MAX_SUPERCONDITION_FACTOR),
    "guidance": _NUMBER.format(MIN_SUPERCONDITION_FACTOR, MAX_SUPERCONDITION_FACTOR),
    "img_format": "jpeg, png or webp",
    "grid": "true or false",
    "seamless": "true or false",
}
_MAX_SHOWN_CHARACTERS = 60


def parse_dalle_request(body: bytes, max_images: int) -> DalleRequest:
    """Read the body of `POST /dalle`; raise InvalidRequest with the field and what is accepted."""
    try:
        asked = DalleRequest.model_validate(parse_object(body))
    except ValidationError as error:
        raise _invalid(error.errors(include_url=False)[0], max_images) from None
    if asked.num_images > max_images:
        raise InvalidRequest("num_images", _sentence("num_images", asked.num_images, max_images))
    if asked.seed is not None and asked.seed + asked.num_images - 1 > MAX_SEED:
        raise InvalidRequest(
            "seed", f"seed must leave room for {asked.num_images} images: image i has seed + i, {MAX_SEED} at most"
        )
    return asked


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a body as one strict JSON object, whatever its content type says; raise InvalidRequest."""
    try:
        parsed = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        field = _field_not_finite(body)
        if field is not None:
            raise InvalidRequest(field, f"{field} must be a finite number: NaN and Infinity are not JSON") from None
        reason = "it is empty" if not body.strip() else str(error)
        raise InvalidRequest(None, f'The body must be a JSON object such as {{"text": "a red circle"}}: {reason}') from None
    if not isinstance(parsed, dict):
        raise InvalidRequest(None, f'The body must be a JSON object such as {{"text": "a red circle"}}, not {_show(parsed)}')
    return parsed


def _field_not_finite(body: bytes) -> str | None:
    """Find the field that holds NaN or Infinity, where these are all that is wrong with the body."""
    try:
        parsed = from_json(body, allow_inf_nan=True)
    except ValueError:
        return None
    fields = parsed.items() if isinstance(parsed, dict) else ()
    return next((name for name, value in fields if isinstance(value, float) and not math.isfinite(value)), None)


def _invalid(error: ErrorDetails, max_images: int) -> InvalidRequest:
    field = str(error["loc"][0])
    if error["type"] == "missing":
        return InvalidRequest(field, f"{field} is required: {_ACCEPTED[field]}")
    return InvalidRequest(field, _sentence(field, error["input"], max_images))


def _sentence(field: str, value: Any, max_images: int) -> str:
    return f"{field} must be {_ACCEPTED[field].format(max_images=max_images)}, not {_show(value)}"


def _show(value: Any) -> str:
    """Write a JSON value as its sender would, cut short; a long text by its length only."""
    if isinstance(value, str) and len(value) > _MAX_SHOWN_CHARACTERS:
        return f"{len(value)} characters"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= _MAX_SHOWN_CHARACTERS else f"{written[:_MAX_SHOWN_CHARACTERS]}..."
