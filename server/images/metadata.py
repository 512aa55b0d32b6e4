"""How an image was drawn, written into its file and read back.

PNG         text chunks: Description (the prompt) and Comment (everything, as JSON)
JPEG, WebP  EXIF: ImageDescription (the prompt) and UserComment (everything, as JSON)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from consts import MAX_PROMPT_CHARACTERS, ImageFormat
from dalle_model import Drawing, SamplingSettings
from server.images.encoding import encode
from server.images.sizes import Size

_MAX_NEGATIVE = 500  # characters of a negative prompt that are kept
# EXIF's name for UTF-16. EXIF's 65,535 bytes hold the longest prompt twice, even one of emoji or control characters only.
_UNICODE = b"UNICODE\0"


@dataclass(frozen=True)
class ImageMetadata:
    """What it takes to draw an image again. A sheet of several images has several seeds."""

    prompt: str
    seeds: tuple[int, ...]
    model: str
    settings: SamplingSettings
    seamless: bool
    negative_prompt: str = ""
    score: float | None = None  # mean log-likelihood in nats; None for a sheet, or if there was one candidate


def describe(drawing: Drawing) -> list[ImageMetadata]:
    """Return the metadata of each image of a drawing: with its own seed, or with all seeds for the one seamless picture."""
    sheet = describe_sheet(drawing)
    scores: Sequence[float | None] = drawing.scores or [None] * len(sheet.seeds)
    if sheet.seamless:
        return [replace(sheet, score=scores[0])]
    return [replace(sheet, seeds=(seed,), score=score) for seed, score in zip(sheet.seeds, scores, strict=True)]


def describe_sheet(drawing: Drawing) -> ImageMetadata:
    """Return the metadata of all images of a drawing as one.

    A prompt longer than the classic route accepts is cut, because EXIF has no room for it; the model reads only its first 64
    tokens.
    """
    request = drawing.request
    prompt = request.prompt
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        prompt = " ".join(prompt.split())[:MAX_PROMPT_CHARACTERS]
    return ImageMetadata(
        prompt, request.seeds, drawing.model, request.sampling, request.seamless, request.negative_prompt[:_MAX_NEGATIVE]
    )


def encode_with_metadata(
    image: Image.Image, image_format: ImageFormat, metadata: ImageMetadata, size: Size | None = None
) -> bytes:
    """Scale an image to `size` (None: as drawn) and encode it with its metadata."""
    description = " ".join(metadata.prompt.replace("\0", " ").split())
    comment = json.dumps(asdict(metadata), ensure_ascii=False)
    if image_format is ImageFormat.PNG:
        chunks = PngInfo()
        chunks.add_itxt("Description", description)
        chunks.add_itxt("Comment", comment)
        return encode(image, image_format, size, pnginfo=chunks)
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = description.encode("utf-8")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNICODE + comment.encode("utf-16-le")
    return encode(image, image_format, size, exif=exif.tobytes())


def read_metadata(data: bytes) -> ImageMetadata:
    """Return the metadata of an encoded image. Raises ValueError if it has none of ours."""
    with Image.open(BytesIO(data)) as image:
        comment = _png_comment(image) if image.format == "PNG" else _exif_comment(image)
    try:
        fields: dict[str, Any] = json.loads(comment)
        return ImageMetadata(**{**fields, "seeds": tuple(fields["seeds"]), "settings": SamplingSettings(**fields["settings"])})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("the image does not say how it was drawn") from error


def _png_comment(image: Image.Image) -> str:
    return str(image.info.get("Comment", ""))


def _exif_comment(image: Image.Image) -> str:
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    return comment.removeprefix(_UNICODE).decode("utf-16-le") if isinstance(comment, bytes) else ""
