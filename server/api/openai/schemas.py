"""Name what the OpenAI routes take and answer. What they take is validated here, once, into a typed, frozen request."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from PIL import Image
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema, create_model

from consts import MAX_IMAGE_SIDE, MAX_OPENAI_PROMPT_CHARACTERS, MIN_IMAGE_SIDE, ImageFormat
from server.api.body import read_body
from server.api.sampling import ACCEPTED_SAMPLING, NOT_BLANK, AnyCaseImageFormat, SamplingAsked
from server.images.encoding import encode
from server.images.sizes import NATIVE_SIZE, SIZE_PATTERN, Size, parse_size

_SIDES = f"{MIN_IMAGE_SIDE} to {MAX_IMAGE_SIDE}"


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


AskedSize = Annotated[
    Size | None,
    BeforeValidator(_size),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN, "examples": ["auto", "256x256", "1024x1024"]}),
]


class ImagesRequest(SamplingAsked):
    """Hold what `POST /v1/images/generations` is asked."""

    example: ClassVar[str] = '{"prompt": "a red circle"}'
    accepted: ClassVar[Mapping[str, str]] = {
        "prompt": f"a string of 1 to {MAX_OPENAI_PROMPT_CHARACTERS} characters that is not blank",
        "model": "a string; any name draws with the model that is loaded",
        "size": f'"auto" or "<width>x<height>", each side {_SIDES}',
        "response_format": '"b64_json" or "url"',
        "output_format": "png, jpeg or webp",
        "output_compression": "a whole number from 0 to 100",
        "background": '"opaque" or "auto" (these models draw no transparency: leave it out)',
        "stream": "true or false",
        "partial_images": "a whole number from 0 to 3",
        **ACCEPTED_SAMPLING,
    }

    prompt: Annotated[
        str,
        Field(
            description="what to draw; the model reads its first 64 tokens",
            min_length=1,
            max_length=MAX_OPENAI_PROMPT_CHARACTERS,
            pattern=NOT_BLANK,
        ),
        AfterValidator(str.strip),
    ]
    model: str | None = Field(default=None, description="any name: the model that is loaded draws")
    n: int = Field(default=1, description="how many images to draw", ge=1)
    size: AskedSize = Field(
        default=None,
        description=f"auto, or <width>x<height> with sides of {_SIDES}; 256x256 is native, what differs is scaled and cropped",
    )
    response_format: Literal["b64_json", "url"] = Field(default="b64_json", description="a stream always has b64_json")
    output_format: AnyCaseImageFormat = Field(default=ImageFormat.PNG, description="png, jpeg or webp, in any case")
    output_compression: int = Field(default=100, description="quality of jpeg and webp; png loses nothing", ge=0, le=100)
    background: Literal["opaque", "auto"] = Field(default="auto", description="always opaque")
    stream: bool = Field(default=False, description="answer server-sent events while the images are drawn")
    partial_images: int = Field(default=0, description="with stream: how many half-drawn images of each to send", ge=0, le=3)
    quality: Any = Field(default=None, description="no effect")
    moderation: Any = Field(default=None, description="no effect")
    style: Any = Field(default=None, description="no effect")
    user: Any = Field(default=None, description="no effect")
    safety_identifier: Any = Field(default=None, description="no effect")

    @property
    def size_text(self) -> str:
        """Write the size that the pictures have in the end."""
        return str(self.size or NATIVE_SIZE)

    def encode(self, picture: Image.Image) -> bytes:
        """Scale a picture to that size and encode it as was asked."""
        quality = {} if self.output_format is ImageFormat.PNG else {"quality": self.output_compression}
        return encode(picture, self.output_format, self.size, **quality)


@cache
def images_request_model(max_images: int) -> type[ImagesRequest]:
    """Bound the number of images as the server is set."""
    bounded = Annotated[int, Field(description="how many images to draw", ge=1, le=max_images)]
    model = create_model("ImagesRequest", __base__=ImagesRequest, __doc__=ImagesRequest.__doc__, n=(bounded, 1))
    model.accepted = {**ImagesRequest.accepted, "n": f"a whole number from 1 to {max_images}"}
    return model


def parse_images_request(body: bytes, max_images: int) -> ImagesRequest:
    """Read the body of `POST /v1/images/generations`; raise InvalidRequest with the field and what is accepted."""
    return read_body(images_request_model(max_images), body)


class TokenDetails(BaseModel):
    """Tell of what kind the tokens are that were read."""

    image_tokens: int = 0
    text_tokens: int


class Usage(BaseModel):
    """Count tokens: those read of the prompt (start and end included, 64 at most), and 256 drawn for every image."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: TokenDetails

    @classmethod
    def of(cls, text_tokens: int, drawn_tokens: int) -> Usage:
        """Count what was read and drawn."""
        return cls(
            input_tokens=text_tokens,
            output_tokens=drawn_tokens,
            total_tokens=text_tokens + drawn_tokens,
            input_tokens_details=TokenDetails(text_tokens=text_tokens),
        )


class ImageItem(BaseModel):
    """Hold one image: `b64_json` or `url`, as was asked."""

    b64_json: str | None = None
    url: str | None = None
    seed: int


class ImagesAnswer(BaseModel):
    """Hold what `POST /v1/images/generations` answers."""

    created: int = Field(description="seconds since 1970")
    data: list[ImageItem]
    background: Literal["opaque"] = "opaque"
    output_format: ImageFormat
    size: str = Field(description="<width>x<height>")
    usage: Usage
    warnings: list[str] | None = Field(default=None, description="what went wrong beside the drawing; absent if nothing did")


class PartialImageEvent(BaseModel):
    """Show image `index` as far as it is drawn."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"
    b64_json: str
    partial_image_index: int
    index: int
    created_at: int
    size: str
    quality: Literal["auto"] = "auto"  # an official client under strict validation wants one
    background: Literal["opaque"] = "opaque"
    output_format: ImageFormat


class CompletedEvent(BaseModel):
    """Hand over image `index`; the usages of a stream's images add up to the request's."""

    type: Literal["image_generation.completed"] = "image_generation.completed"
    b64_json: str
    index: int
    seed: int
    created_at: int
    size: str
    quality: Literal["auto"] = "auto"
    background: Literal["opaque"] = "opaque"
    output_format: ImageFormat
    usage: Usage


class ModelCard(BaseModel):
    """Describe a model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="when this server loaded it, in seconds since 1970")
    owned_by: str


class ModelList(BaseModel):
    """List the models that are served: the one that is loaded."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
