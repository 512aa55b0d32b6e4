"""Put a drawing together and save it, where the server is set to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from consts import MAX_PROMPT_CHARACTERS, ImageFormat
from dalle_model import Drawing, ImageDone, SamplingSettings
from server.images.metadata import describe, encode_with_metadata
from server.images.output_folder import Storage
from server.images.sizes import Size


def gather(done: Mapping[int, ImageDone], image_count: int, settings: SamplingSettings) -> Drawing:
    """Put together what a stream handed over, by index: each image, or one seamless picture of all."""
    first = done[0].seed
    return Drawing([done[index].image for index in sorted(done)], list(range(first, first + image_count)), settings)


def save_pictures(
    storage: Storage | None,
    model_name: str,
    drawing: Drawing,
    pictures: Sequence[Image.Image],
    prompt: str,
    image_format: ImageFormat,
    *,
    size: Size | None = None,
    seamless: bool = False,
) -> list[str]:
    """Save a drawing's pictures if there is a storage, scaled to `size` and each with how it was drawn inside.

    Returns warnings for the caller.

    A prompt longer than the classic route takes is cut, as EXIF has no room for it: the model reads no more than its first 64
    tokens.
    """
    if storage is None:
        return []
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        prompt = " ".join(prompt.split())[:MAX_PROMPT_CHARACTERS]
    descriptions = describe(drawing, len(pictures), prompt, model_name, seamless)

    def encode() -> list[bytes]:
        return [
            encode_with_metadata(picture, image_format, said, size) for picture, said in zip(pictures, descriptions, strict=True)
        ]

    return storage.save_or_warn(encode, image_format.value, prompt)
