"""Decoding of answers: server-sent events, and images in base64."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

from PIL import Image

Events = list[tuple[str, dict[str, Any]]]


def events_in(text: str) -> Events:
    """Parse a stream: for each event a name line, a data line and a blank line. Comments are skipped."""
    assert text.endswith("\n\n")
    events = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        if block == ": ka":
            continue
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def open_base64(image: str) -> Image.Image:
    """Open an image in base64."""
    return Image.open(BytesIO(base64.b64decode(image, validate=True)))
