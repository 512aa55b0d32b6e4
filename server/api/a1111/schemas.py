"""The body of `POST /sdapi/v1/txt2img`, its answer, and what the other routes answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, Field

from consts import (
    MAX_BEST_OF,
    MAX_IMAGE_SIDE,
    MAX_OPENAI_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_SUPERCONDITION_FACTOR,
    MIN_IMAGE_SIDE,
    MIN_SUPERCONDITION_FACTOR,
)
from dalle_model import PREVIEWS, DrawingRequest, InvalidRequest, SamplingSettings, consecutive_seeds
from server.api.body import RequestBody
from server.api.drawing_body import NOT_BLANK
from server.images.sizes import Size

_DEFAULT_SIDE = 512  # as the web UI has it


class Txt2ImgRequest(RequestBody):
    """The body of `POST /sdapi/v1/txt2img`. Fields that mean nothing to these models are ignored."""

    example: ClassVar[str] = '{"prompt": "a red circle"}'
    accepted: ClassVar[Mapping[str, str]] = {
        "prompt": f"a string of 1 to {MAX_OPENAI_PROMPT_CHARACTERS} characters that is not blank",
        "negative_prompt": f"a string of at most {MAX_OPENAI_PROMPT_CHARACTERS} characters",
        "seed": f"a whole number from 0 to {MAX_SEED}, or -1 for a random one",
        **dict.fromkeys(("batch_size", "n_iter"), "a whole number above 0"),
        **dict.fromkeys(("width", "height"), f"a whole number from {MIN_IMAGE_SIDE} to {MAX_IMAGE_SIDE}"),
        "cfg_scale": f"a number from {MIN_SUPERCONDITION_FACTOR} to {MAX_SUPERCONDITION_FACTOR}",
        "best_of": f"a whole number from 1 to {MAX_BEST_OF}",
    }

    prompt: Annotated[
        str,
        Field(description="what to draw", min_length=1, max_length=MAX_OPENAI_PROMPT_CHARACTERS, pattern=NOT_BLANK),
        AfterValidator(str.strip),
    ]
    negative_prompt: str = Field(default="", description="what not to draw", max_length=MAX_OPENAI_PROMPT_CHARACTERS)
    seed: int = Field(default=-1, description="of the first image; image i has seed + i; -1: random", ge=-1, le=MAX_SEED)
    batch_size: int = Field(default=1, description="images, times n_iter", ge=1)
    n_iter: int = Field(default=1, description="images, times batch_size", ge=1)
    width: int = Field(default=_DEFAULT_SIDE, ge=MIN_IMAGE_SIDE, le=MAX_IMAGE_SIDE)
    height: int = Field(default=_DEFAULT_SIDE, ge=MIN_IMAGE_SIDE, le=MAX_IMAGE_SIDE)
    cfg_scale: float | None = Field(
        default=None,
        description="guidance: how closely to follow the prompt",
        ge=MIN_SUPERCONDITION_FACTOR,
        le=MAX_SUPERCONDITION_FACTOR,
        allow_inf_nan=False,
    )
    best_of: int | None = Field(
        default=None, description="draw so many candidates of each image, and answer the likeliest", ge=1, le=MAX_BEST_OF
    )

    @property
    def size(self) -> Size:
        """The size of the images in the answer."""
        return Size(self.width, self.height)

    def drawing_request(self, default: SamplingSettings, max_images: int) -> DrawingRequest:
        """Return what to draw, with the model's defaults filled in. Raises InvalidRequest."""
        count = self.batch_size * self.n_iter
        if count > max_images:
            raise InvalidRequest("batch_size", f"batch_size times n_iter must be at most {max_images}, not {count}")
        seeds = consecutive_seeds(None if self.seed == -1 else self.seed, count)
        sampling = default.override(supercondition_factor=self.cfg_scale, best_of=self.best_of)
        return DrawingRequest(self.prompt, seeds, sampling, self.negative_prompt, PREVIEWS)


class Txt2ImgAnswer(BaseModel):
    """The answer of `POST /sdapi/v1/txt2img`."""

    images: list[str] = Field(description="PNG in base64, without a prefix")
    parameters: dict[str, Any] = Field(description="the request")
    info: str = Field(description="JSON: all_seeds, all_prompts, infotexts and more")


class ProgressState(BaseModel):
    """What the server is doing."""

    job: str
    job_count: int
    sampling_step: int
    sampling_steps: int
    skipped: bool = False
    interrupted: bool = False


class ProgressAnswer(BaseModel):
    """The progress of the drawings that this dialect has started."""

    progress: float = Field(description="0 to 1; 0 if nothing is drawn")
    eta_relative: float = Field(description="seconds until they are done, about")
    state: ProgressState
    current_image: str | None = Field(description="the newest preview, JPEG in base64")
    textinfo: str | None = None
