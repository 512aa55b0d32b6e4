"""Encoding pictures, at most one per core at a time: more at once take 17 MB each and are no faster."""

from __future__ import annotations

import threading
from typing import Any

from PIL import Image

from consts import ImageFormat
from host.threads import usable_threads
from server.images.sizes import Size, fit
from utils import encode_image

_TURNS = threading.BoundedSemaphore(usable_threads())


def encode(picture: Image.Image, image_format: ImageFormat, size: Size | None = None, **options: Any) -> bytes:
    """Wait for a turn, scale a picture to `size` (None: as drawn) and encode it; `options` go to Pillow's encoder.

    The turn ends with the encoding. Saving and sending happen outside it, so a slow disk delays only requests that save.
    """
    with _TURNS:
        return encode_image(fit(picture, size), image_format, **options)
