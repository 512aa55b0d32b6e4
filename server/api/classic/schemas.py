"""The body of `POST /dalle`, its answer, and its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field

from consts import MAX_PROMPT_CHARACTERS, ImageFormat
from dalle_model import PREVIEWS, DrawingRequest, SamplingSettings
from server.api.drawing_body import ACCEPTED_SAMPLING, NOT_BLANK, SCORE, AnyCaseImageFormat, DrawingBody


class DalleRequest(DrawingBody):
    """The body of `POST /dalle`. None stands for the default of the model or the server."""

    example: ClassVar[str] = '{"text": "a red circle"}'
    accepted: ClassVar[Mapping[str, str]] = {
        "text": f"a string of 1 to {MAX_PROMPT_CHARACTERS} characters that is not blank",
        "img_format": "jpeg, png or webp",
        **dict.fromkeys(("grid", "seamless", "stream", "previews"), "true or false"),
        **ACCEPTED_SAMPLING,
    }

    text: Annotated[
        str,
        Field(description="what to draw", min_length=1, max_length=MAX_PROMPT_CHARACTERS, pattern=NOT_BLANK),
        AfterValidator(str.strip),
    ]
    num_images: int = Field(default=1, description="how many images to draw", ge=1)
    img_format: AnyCaseImageFormat | None = Field(default=None, description="jpeg, png or webp, in any case")
    grid: bool = Field(default=False, description="answer all images as one sheet")
    seamless: bool = Field(default=False, description="draw all images as one picture without seams")
    stream: bool = Field(default=False, description="answer server-sent events while the images are drawn")
    previews: bool = Field(default=True, description="with stream: also send half-drawn images")

    def drawing_request(self, default: SamplingSettings) -> DrawingRequest:
        """Return what to draw, with the model's defaults filled in. Raises InvalidRequest."""
        previews = PREVIEWS if self.stream and self.previews and not self.seamless else ()
        return DrawingRequest(
            self.text, self.seeds(self.num_images), self.sampling(default), self.negative_prompt, previews, self.seamless
        )


class DalleAnswer(BaseModel):
    """The answer of `POST /dalle`."""

    generatedImgs: list[str] = Field(description="the images in base64, without a prefix")
    generatedImages: list[str] = Field(description="the same list, under the name that dalle-backend's clients read")
    generatedImgsFormat: ImageFormat = Field(description="jpeg, png or webp")
    seeds: list[int] = Field(description="each image's seed")
    scores: list[float] | None = Field(default=None, description=SCORE)
    model: str = Field(description="the model that drew")
    warnings: list[str] | None = Field(default=None, description="problems beside the drawing; absent if there were none")


class QueuedEvent(BaseModel):
    """How many images are drawn before this request's first."""

    position: int


class ProgressEvent(BaseModel):
    """How much of image `index` is drawn."""

    index: int
    percent: int


class PreviewEvent(ProgressEvent):
    """Image `index` as far as it is drawn."""

    image: str = Field(description="in base64, without a prefix")
    format: Literal[ImageFormat.JPEG] = ImageFormat.JPEG


class ImageEvent(BaseModel):
    """Picture `index`: an image as soon as it is drawn, or the sheet of all images at the end."""

    index: int
    seed: int
    score: float | None = Field(default=None, description=SCORE)
    image: str = Field(description="in base64, without a prefix")
    format: ImageFormat


class DoneEvent(BaseModel):
    """The end of a stream in which nothing failed."""

    seeds: list[int] = Field(description="each image's seed")
    scores: list[float] | None = Field(default=None, description=SCORE)
    model: str = Field(description="the model that drew")
    generatedImgsFormat: ImageFormat
    warnings: list[str] | None = Field(default=None, description="problems beside the drawing; absent if there were none")
