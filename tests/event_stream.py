"""Read server-sent events."""

from __future__ import annotations

import json
from typing import Any

Events = list[tuple[str, dict[str, Any]]]


def events_in(text: str) -> Events:
    """Read a stream as the contract writes it: an event line, a data line, a blank line; comments are none of it."""
    assert text.endswith("\n\n")
    events = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        if block == ": ka":
            continue
        named, data = block.split("\n")
        events.append((named.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events
