"""The body of `POST /v1/images/generations`, its answer and events, and the list of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from PIL import Image
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from consts import MAX_IMAGE_SIDE, MAX_OPENAI_PROMPT_CHARACTERS, MIN_IMAGE_SIDE, ImageFormat
from dalle_model import IMAGE_TOKEN_COUNT, PREVIEW_EVERY, DrawingRequest, SamplingSettings
from server.api.drawing_body import ACCEPTED_SAMPLING, NOT_BLANK, SCORE, AnyCaseImageFormat, DrawingBody
from server.images.encoding import encode
from server.images.sizes import NATIVE_SIZE, SIZE_PATTERN, Size, parse_size

# Their clients read `url` without asking for it.
_MODELS_WITH_URLS = ("dall-e-2", "dall-e-3")

_SIDES = f"{MIN_IMAGE_SIDE} to {MAX_IMAGE_SIDE}"


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


RequestedSize = Annotated[
    Size | None,
    BeforeValidator(_size),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN, "examples": ["auto", "256x256", "1024x1024"]}),
]


class ImagesRequest(DrawingBody):
    """The body of `POST /v1/images/generations`."""

    example: ClassVar[str] = '{"prompt": "a red circle"}'
    accepted: ClassVar[Mapping[str, str]] = {
        "prompt": f"a string of 1 to {MAX_OPENAI_PROMPT_CHARACTERS} characters that is not blank",
        "model": "a string; the loaded model draws, whatever the name",
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
    model: str | None = Field(default=None, description="any name: the loaded model draws")
    n: int = Field(default=1, description="how many images to draw", ge=1)
    size: RequestedSize = Field(
        default=None,
        description=f"auto, or <width>x<height> with sides of {_SIDES}; 256x256 is native, other sizes are scaled and cropped",
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        default=None,
        description="by default url for the models dall-e-2 and dall-e-3, as OpenAI's API has it, else b64_json; "
        "a stream always has b64_json",
    )
    output_format: AnyCaseImageFormat = Field(default=ImageFormat.PNG, description="png, jpeg or webp, in any case")
    output_compression: int = Field(default=100, description="quality of jpeg and webp; png is lossless", ge=0, le=100)
    background: Literal["opaque", "auto"] = Field(default="auto", description="always opaque")
    stream: bool = Field(default=False, description="answer server-sent events while the images are drawn")
    partial_images: int = Field(default=0, description="with stream: how many half-drawn images of each to send", ge=0, le=3)
    quality: Any = Field(default=None, description="no effect")
    moderation: Any = Field(default=None, description="no effect")
    style: Any = Field(default=None, description="no effect")
    user: Any = Field(default=None, description="no effect")
    safety_identifier: Any = Field(default=None, description="no effect")

    def drawing_request(self, default: SamplingSettings) -> DrawingRequest:
        """Return what to draw, with the model's defaults filled in. Raises InvalidRequest."""
        previews = preview_positions(self.partial_images) if self.stream else ()
        return DrawingRequest(self.prompt, self.seeds(self.n), self.sampling(default), self.negative_prompt, previews)

    @property
    def has_urls(self) -> bool:
        """Whether the answer has URLs in place of base64."""
        return (self.response_format or ("url" if (self.model or "").casefold() in _MODELS_WITH_URLS else "b64_json")) == "url"

    @property
    def size_text(self) -> str:
        """The size of the pictures in the answer."""
        return str(self.size or NATIVE_SIZE)

    def encode(self, picture: Image.Image) -> bytes:
        """Scale a picture to the requested size and encode it in the requested format."""
        quality = {} if self.output_format is ImageFormat.PNG else {"quality": self.output_compression}
        return encode(picture, self.output_format, self.size, **quality)


def preview_positions(count: int) -> tuple[int, ...]:
    """Return numbers of tokens that spread `count` previews over an image, as evenly as the engine's previews allow.

    Two previews come at 96 and 160 of 256 tokens.
    """
    steps = IMAGE_TOKEN_COUNT // PREVIEW_EVERY
    return tuple(PREVIEW_EVERY * round(steps * (index + 1) / (count + 1)) for index in range(count))


class TokenDetails(BaseModel):
    """The kinds of tokens in the prompt."""

    image_tokens: int = 0
    text_tokens: int


class Usage(BaseModel):
    """Token counts: those of the prompt (start and end included, 64 at most), and 256 for every image."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: TokenDetails

    @classmethod
    def of(cls, text_tokens: int, drawn_tokens: int) -> Usage:
        """Return the usage for these counts."""
        return cls(
            input_tokens=text_tokens,
            output_tokens=drawn_tokens,
            total_tokens=text_tokens + drawn_tokens,
            input_tokens_details=TokenDetails(text_tokens=text_tokens),
        )


class ImageItem(BaseModel):
    """One image, as `b64_json` or `url`."""

    b64_json: str | None = None
    url: str | None = None
    seed: int
    score: float | None = Field(default=None, description=SCORE)


class ImagesAnswer(BaseModel):
    """The answer of `POST /v1/images/generations`."""

    created: int = Field(description="seconds since 1970")
    data: list[ImageItem]
    background: Literal["opaque"] = "opaque"
    output_format: ImageFormat
    size: str = Field(description="<width>x<height>")
    usage: Usage
    warnings: list[str] | None = Field(default=None, description="problems beside the drawing; absent if there were none")


class PartialImageEvent(BaseModel):
    """Image `index` as far as it is drawn."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"
    b64_json: str
    partial_image_index: int
    index: int
    created_at: int
    size: str
    quality: Literal["auto"] = "auto"  # an official client under strict validation requires it
    background: Literal["opaque"] = "opaque"
    output_format: ImageFormat


class CompletedEvent(BaseModel):
    """Finished image `index`. The usages of a stream's images add up to the request's."""

    type: Literal["image_generation.completed"] = "image_generation.completed"
    b64_json: str
    index: int
    seed: int
    score: float | None = Field(default=None, description=SCORE)
    created_at: int
    size: str
    quality: Literal["auto"] = "auto"
    background: Literal["opaque"] = "opaque"
    output_format: ImageFormat
    usage: Usage
    warnings: list[str] | None = Field(default=None, description="with the first image: what of the request has no effect")


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="when this server loaded it, in seconds since 1970")
    owned_by: str


class ModelList(BaseModel):
    """The model that is loaded, and its aliases."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
