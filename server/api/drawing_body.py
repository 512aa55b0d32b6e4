"""The fields that the bodies of all drawing routes share: the seed and the sampling settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, WithJsonSchema, create_model

from consts import (
    MAX_BEST_OF,
    MAX_OPENAI_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_SUPERCONDITION_FACTOR,
    MAX_TEMPERATURE,
    MAX_TOP_K,
    MIN_SUPERCONDITION_FACTOR,
    MIN_TEMPERATURE,
    ImageFormat,
)
from dalle_model import SamplingSettings, consecutive_seeds
from server.api.body import RequestBody
from utils import parse_image_format

DrawingBodyT = TypeVar("DrawingBodyT", bound="DrawingBody")

_NUMBER = "a number from {} to {}"
_GUIDANCE = _NUMBER.format(MIN_SUPERCONDITION_FACTOR, MAX_SUPERCONDITION_FACTOR)

ACCEPTED_SAMPLING: Mapping[str, str] = {
    "seed": f"a whole number from 0 to {MAX_SEED}, or -1 for a random one",
    "temperature": _NUMBER.format(MIN_TEMPERATURE, MAX_TEMPERATURE),
    "top_k": f"a whole number from 1 to {MAX_TOP_K}",
    "supercondition_factor": _GUIDANCE,
    "guidance": _GUIDANCE,
    "best_of": f"a whole number from 1 to {MAX_BEST_OF}",
    "negative_prompt": f"a string of at most {MAX_OPENAI_PROMPT_CHARACTERS} characters",
}

SCORE = "with best_of: the mean log-likelihood of the image's tokens, in nats"

# Not blank as Python sees it: beside Unicode's white space, the four separators of ASCII.
NOT_BLANK = r"[^\s\x1c-\x1f]"


def _image_format(value: Any) -> Any:
    return parse_image_format(value) if isinstance(value, str) else value


AnyCaseImageFormat = Annotated[
    ImageFormat,
    BeforeValidator(_image_format),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*([Jj][Pp][Ee]?[Gg]|[Pp][Nn][Gg]|[Ww][Ee][Bb][Pp])\s*$",
            "examples": [image_format.value for image_format in ImageFormat],
        }
    ),
]


class DrawingBody(RequestBody):
    """The seed and the sampling settings. None stands for the model's default."""

    seed: int | None = Field(
        default=None, description="seed of the first image, -1 for a random one; image i has seed + i", ge=-1, le=MAX_SEED
    )
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
    )
    guidance: float | None = Field(
        default=None,
        description="another name for supercondition_factor, which wins if both are given",
        ge=MIN_SUPERCONDITION_FACTOR,
        le=MAX_SUPERCONDITION_FACTOR,
        allow_inf_nan=False,
    )
    best_of: int | None = Field(
        default=None,
        description="draw so many candidates of each image, and answer the likeliest",
        ge=1,
        le=MAX_BEST_OF,
    )
    negative_prompt: str = Field(
        default="", description="what not to draw: guidance leads away from it", max_length=MAX_OPENAI_PROMPT_CHARACTERS
    )

    def seeds(self, count: int) -> tuple[int, ...]:
        """Return a seed for each of `count` images. Raises InvalidRequest."""
        return consecutive_seeds(None if self.seed == -1 else self.seed, count)

    def sampling(self, default: SamplingSettings) -> SamplingSettings:
        """Return the sampling settings, with the model's defaults filled in."""
        factor = self.guidance if self.supercondition_factor is None else self.supercondition_factor
        return default.override(self.temperature, self.top_k, factor, self.best_of)


@cache
def with_image_limit(model: type[DrawingBodyT], field: str, max_images: int) -> type[DrawingBodyT]:
    """Return a body's model whose `field`, the number of images, is at most `max_images`."""
    bounded = Annotated[int, Field(description="how many images to draw", ge=1, le=max_images)]
    limited: type[DrawingBodyT] = create_model(  # type: ignore[call-overload]
        model.__name__, __base__=model, __doc__=model.__doc__, **{field: (bounded, 1)}
    )
    limited.accepted = {**model.accepted, field: f"a whole number from 1 to {max_images}"}
    return limited
