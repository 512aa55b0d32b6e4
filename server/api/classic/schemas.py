"""Name what the classic routes take and answer. What they take is validated here, once, into a typed, frozen request."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, create_model

from consts import MAX_PROMPT_CHARACTERS, ImageFormat
from server.api.body import read_body
from server.api.sampling import ACCEPTED_SAMPLING, NOT_BLANK, AnyCaseImageFormat, SamplingAsked


class DalleRequest(SamplingAsked):
    """Hold what `POST /dalle` is asked. None means that the model or the server has its own default."""

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


@cache
def dalle_request_model(max_images: int) -> type[DalleRequest]:
    """Bound the number of images as the server is set."""
    bounded = Annotated[int, Field(description="how many images to draw", ge=1, le=max_images)]
    model = create_model("DalleRequest", __base__=DalleRequest, __doc__=DalleRequest.__doc__, num_images=(bounded, 1))
    model.accepted = {**DalleRequest.accepted, "num_images": f"a whole number from 1 to {max_images}"}
    return model


def parse_dalle_request(body: bytes, max_images: int) -> DalleRequest:
    """Read the body of `POST /dalle`; raise InvalidRequest with the field and what is accepted."""
    return read_body(dalle_request_model(max_images), body)


class DalleAnswer(BaseModel):
    """Hold what `POST /dalle` answers."""

    generatedImgs: list[str] = Field(description="the images in base64, without a prefix")
    generatedImages: list[str] = Field(description="the same list, under the name that dalle-backend's clients read")
    generatedImgsFormat: ImageFormat = Field(description="jpeg, png or webp")
    seeds: list[int] = Field(description="each image's seed")
    model: str = Field(description="the model that drew")
    warnings: list[str] | None = Field(default=None, description="what went wrong beside the drawing; absent if nothing did")


class QueuedEvent(BaseModel):
    """Tell how many images are drawn before this request's first."""

    position: int


class ProgressEvent(BaseModel):
    """Tell how much of image `index` is drawn."""

    index: int
    percent: int


class PreviewEvent(ProgressEvent):
    """Show image `index` as far as it is drawn."""

    image: str = Field(description="in base64, without a prefix")
    format: Literal[ImageFormat.JPEG] = ImageFormat.JPEG


class ImageEvent(BaseModel):
    """Hand over picture `index`: an image as soon as it is drawn, or the one sheet of them all at the end."""

    index: int
    seed: int
    image: str = Field(description="in base64, without a prefix")
    format: ImageFormat


class DoneEvent(BaseModel):
    """End a stream in which nothing failed."""

    seeds: list[int] = Field(description="each image's seed")
    model: str = Field(description="the model that drew")
    generatedImgsFormat: ImageFormat
    warnings: list[str] | None = Field(default=None, description="what went wrong beside the drawing; absent if nothing did")
