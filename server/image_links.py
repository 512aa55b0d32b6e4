"""Keep images for a while under names that can't be guessed, and serve them at /images/<name>."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from consts import MAX_LINKED_BYTES, ImageFormat
from server.settings import Settings

_NAME_BYTES = 24  # random: nobody tries 2**192 names


@dataclass(frozen=True)
class Kept:
    """Hold one encoded image until a time by the keeper's clock."""

    data: bytes
    media_type: str
    until: float


class ImageKeeper:
    """Keep encoded images in memory for `seconds`, all together in at most `max_bytes`: past it the oldest go first.

    In memory, as these are copies for an hour of what their callers could have had in the answer: so there is no folder to
    be writable, to fill up, or to be swept after a crash. A restart forgets them.
    """

    def __init__(self, seconds: float, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._max_bytes, self._clock = seconds, max_bytes, clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # the first to go is the first
        self._bytes = 0
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def keep(self, data: bytes, image_format: ImageFormat) -> str:
        """Keep an image; return its name."""
        name = f"{secrets.token_urlsafe(_NAME_BYTES)}.{image_format.value}"
        with self._lock:
            self._kept[name] = Kept(data, f"image/{image_format.value}", self._clock() + self._seconds)
            self._bytes += len(data)
        self.sweep()
        return name

    def find(self, name: str) -> tuple[Kept, int] | None:
        """Return an image and for how many seconds it is still kept, None where there is none of that name."""
        with self._lock:
            kept = self._kept.get(name)
        left = 0.0 if kept is None else kept.until - self._clock()
        return None if kept is None or left <= 0 else (kept, int(left))

    def sweep(self) -> None:
        """Let go of what has had its time and of what is too much, and come again when the next one's time is up."""
        with self._lock:
            while self._kept:
                first = next(iter(self._kept))
                left = self._kept[first].until - self._clock()
                if left > 0 and self._bytes <= self._max_bytes:
                    break
                self._bytes -= len(self._kept.pop(first).data)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._kept:
                self._timer = threading.Timer(max(left, 0.0), self.sweep)
                self._timer.daemon = True
                self._timer.start()

    @property
    def kept_bytes(self) -> int:
        """Return how much memory the images take."""
        return self._bytes


def link_to(keeper: ImageKeeper, settings: Settings, data: bytes, image_format: ImageFormat) -> str:
    """Keep an image, and write the URL at which the caller of the request being served finds it."""
    base = settings.public_url or request.url_root
    return f"{base.rstrip('/')}/images/{keeper.keep(data, image_format)}"


def build_keeper(settings: Settings) -> ImageKeeper:
    """Build the keeper that the settings ask for."""
    return ImageKeeper(settings.url_ttl, MAX_LINKED_BYTES)


def image_link_routes(keeper: ImageKeeper) -> Blueprint:
    """Build `GET /images/<name>`."""
    blueprint = Blueprint("image_links", __name__)

    @blueprint.get("/images/<name>")
    def image(name: str) -> Response:
        """Serve an image that was answered as a URL, while it is kept."""
        found = keeper.find(name)
        if found is None:
            raise NotFound("There is no image here, or no longer: links to images work for a limited time only.")
        kept, seconds_left = found
        response = Response(kept.data, mimetype=kept.media_type)
        response.headers["Cache-Control"] = f"private, max-age={seconds_left}, immutable"
        response.set_etag(name)
        response.make_conditional(request)
        return response

    return blueprint
