"""What every drawing route lets its caller choose: the seed, and how tokens are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from consts import (
    MAX_SEED,
    MAX_SUPERCONDITION_FACTOR,
    MAX_TEMPERATURE,
    MAX_TOP_K,
    MIN_SUPERCONDITION_FACTOR,
    MIN_TEMPERATURE,
    ImageFormat,
)
from dalle_model import SamplingSettings
from server.api.body import Asked
from utils import parse_image_format

_NUMBER = "a number from {} to {}"
_GUIDANCE = _NUMBER.format(MIN_SUPERCONDITION_FACTOR, MAX_SUPERCONDITION_FACTOR)

ACCEPTED_SAMPLING: Mapping[str, str] = {
    "seed": f"a whole number from 0 to {MAX_SEED}",
    "temperature": _NUMBER.format(MIN_TEMPERATURE, MAX_TEMPERATURE),
    "top_k": f"a whole number from 1 to {MAX_TOP_K}",
    "supercondition_factor": _GUIDANCE,
    "guidance": _GUIDANCE,
}

# Not blank by Python's notion of white space, which here, beside Unicode's, counts the four separators of ASCII.
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


class SamplingAsked(Asked):
    """Hold the seed and how tokens are drawn. None means that the model has its own default."""

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
    )
    guidance: float | None = Field(
        default=None,
        description="another name of supercondition_factor, which counts where both are given",
        ge=MIN_SUPERCONDITION_FACTOR,
        le=MAX_SUPERCONDITION_FACTOR,
        allow_inf_nan=False,
    )

    def sampling(self) -> dict[str, Any]:
        """Give the arguments that `DalleModel.draw` and `DalleModel.stream` take of these."""
        factor = self.guidance if self.supercondition_factor is None else self.supercondition_factor
        return {"seed": self.seed, "temperature": self.temperature, "top_k": self.top_k, "supercondition_factor": factor}

    def settings(self, default: SamplingSettings) -> SamplingSettings:
        """Fill in the model's defaults."""
        given = {name: value for name, value in self.sampling().items() if name != "seed" and value is not None}
        return replace(default, **given)
