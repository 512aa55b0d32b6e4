"""Keep images for a while under names that can't be guessed, and serve them at /images/<name>."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cachetools import TTLCache
from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from consts import MAX_LINKED_BYTES, ImageFormat
from server.config.settings import Settings

# A name is 32 characters of random: 16 of its answer, then 16 of its own, so that one link doesn't give away its siblings.
_RANDOM_BYTES = 12
_RANDOM_CHARACTERS = 16


@dataclass(frozen=True)
class LinkedAnswer:
    """The encoded images of one answer by name, and when they expire by the keeper's clock."""

    images: Mapping[str, bytes]
    media_type: str
    expires_at: float


@dataclass(frozen=True)
class LinkedImage:
    """An encoded image and the whole seconds for which its link still works."""

    data: bytes
    media_type: str
    seconds_left: int


class ImageKeeper:
    """Encoded images in memory, each answer's for `seconds`, in `max_bytes` altogether.

    Past `max_bytes` the answer whose images were not fetched for longest is dropped, as a whole: dropping single images would
    break links of an answer that is still being written. An answer larger than `max_bytes` is kept alone.

    In memory, as these are copies for an hour of what their callers could have had in the answer: there is no folder to
    be writable, to fill up, or to be swept after a crash. A restart forgets them.
    """

    def __init__(self, seconds: float, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._max_bytes, self._clock = seconds, max_bytes, clock
        # Without a bound of its own: it would refuse an answer that is larger.
        self._answers: TTLCache[str, LinkedAnswer] = TTLCache(math.inf, seconds, clock, _size_of)
        self._lock = threading.Lock()

    def keep(self, images: Sequence[bytes], image_format: ImageFormat) -> list[str]:
        """Keep an answer's encoded images; return their names."""
        key = secrets.token_urlsafe(_RANDOM_BYTES)
        names = [f"{key}{secrets.token_urlsafe(_RANDOM_BYTES)}.{image_format.value}" for _ in images]
        with self._lock:
            self._answers[key] = LinkedAnswer(
                dict(zip(names, images, strict=True)), f"image/{image_format.value}", self._clock() + self._seconds
            )
            while self._answers.currsize > self._max_bytes and len(self._answers) > 1:
                self._answers.popitem()
        return names

    def find(self, name: str) -> LinkedImage | None:
        """Return the image of this name, or None if there is none or it has expired."""
        with self._lock:
            answer = self._answers.get(name[:_RANDOM_CHARACTERS])
        if answer is None or name not in answer.images:
            return None
        return LinkedImage(answer.images[name], answer.media_type, max(0, int(answer.expires_at - self._clock())))

    def expire(self) -> None:
        """Free the memory of expired images."""
        with self._lock:
            self._answers.expire()

    @property
    def kept_bytes(self) -> int:
        """How much memory the images take."""
        with self._lock:
            return int(self._answers.currsize)


def _size_of(answer: LinkedAnswer) -> int:
    return sum(len(data) for data in answer.images.values())


def links_to(keeper: ImageKeeper, settings: Settings, images: Sequence[bytes], image_format: ImageFormat) -> list[str]:
    """Keep an answer's images; return the URLs at which the caller of the current request finds them."""
    base = (settings.public_url or request.url_root).rstrip("/")
    return [f"{base}/images/{name}" for name in keeper.keep(images, image_format)]


def build_keeper(settings: Settings) -> ImageKeeper:
    """Build the keeper that the settings ask for."""
    return ImageKeeper(settings.url_ttl, MAX_LINKED_BYTES)


def image_link_routes(keeper: ImageKeeper) -> Blueprint:
    """Build `GET /images/<name>`."""
    blueprint = Blueprint("image_links", __name__)
    # The cache drops expired images only when it is used. Every request sweeps it, and supervisors ask for /health all the time.
    blueprint.before_app_request(keeper.expire)

    @blueprint.get("/images/<name>")
    def image(name: str) -> Response:
        """Serve an image that was answered as a URL, while it is kept."""
        found = keeper.find(name)
        if found is None:
            raise NotFound("There is no image here, or no longer: links to images work for a limited time only.")
        response = Response(found.data, mimetype=found.media_type)
        response.headers["Cache-Control"] = f"private, max-age={found.seconds_left}, immutable"
        response.set_etag(name)
        response.make_conditional(request)
        return response

    return blueprint
