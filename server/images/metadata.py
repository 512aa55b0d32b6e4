"""Write into an image file how it was drawn, and read it back.

PNG         text chunks: Description (the prompt) and Comment (everything, as JSON)
JPEG, WebP  EXIF: ImageDescription (the prompt) and UserComment (everything, as JSON)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from consts import ImageFormat
from dalle_model import SamplingSettings
from server.images.encoding import encode
from server.images.sizes import Size

if TYPE_CHECKING:
    from dalle_model import Drawing

# EXIF's name for UTF-16. Its 65,535 bytes hold the longest prompt twice, be it all emoji or all control characters.
_UNICODE = b"UNICODE\0"


@dataclass(frozen=True)
class ImageMetadata:
    """Hold what it takes to draw an image again; `seeds` has several where the image is a sheet of several."""

    prompt: str
    seeds: tuple[int, ...]
    model: str
    settings: SamplingSettings
    seamless: bool


def describe(drawing: Drawing, picture_count: int, prompt: str, model: str, seamless: bool) -> list[ImageMetadata]:
    """Describe each picture of a drawing: its own seed, or all of them where one picture is a sheet of several."""
    seeds = [(seed,) for seed in drawing.seeds] if picture_count == len(drawing.seeds) else [tuple(drawing.seeds)] * picture_count
    return [ImageMetadata(prompt, own, model, drawing.settings, seamless) for own in seeds]


def encode_with_metadata(
    image: Image.Image, image_format: ImageFormat, metadata: ImageMetadata, size: Size | None = None
) -> bytes:
    """Scale an image to `size` (None: as drawn) and encode it with its metadata inside."""
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
    """Read the metadata of an encoded image; raise ValueError where there is none of ours."""
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
