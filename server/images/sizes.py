"""Sizes of pictures in answers: parsed, and scaled to."""

from __future__ import annotations

import re
from dataclasses import dataclass

from PIL import Image, ImageOps

# MIN_IMAGE_SIDE to MAX_IMAGE_SIDE, written so that a JSON Schema can use it.
_SIDE = r"(1[6-9]|[2-9][0-9]|[1-9][0-9]{2}|1[0-9]{3}|20[0-3][0-9]|204[0-8])"
SIZE_PATTERN = rf"^(auto|{_SIDE}x{_SIDE})$"


@dataclass(frozen=True)
class Size:
    """A size in pixels. None in place of one means as drawn."""

    width: int
    height: int

    def __str__(self) -> str:
        """Return the form that requests use."""
        return f"{self.width}x{self.height}"


NATIVE_SIZE = Size(256, 256)


def parse_size(text: str) -> Size | None:
    """Parse `auto` (None: as drawn) or `<width>x<height>`. Raises ValueError."""
    match = re.fullmatch(SIZE_PATTERN, text)
    if match is None:
        raise ValueError("must be auto or <width>x<height>")
    return None if text == "auto" else Size(int(match[2]), int(match[3]))


def fit(image: Image.Image, size: Size | None) -> Image.Image:
    """Scale a picture to exactly this size. With another aspect ratio, both sides are cropped."""
    if size is None or image.size == (size.width, size.height):
        return image
    return ImageOps.fit(image, (size.width, size.height), Image.Resampling.LANCZOS)
