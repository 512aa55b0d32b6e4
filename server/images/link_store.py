"""Encoded images that are kept in memory for a while, under names that cannot be guessed."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cachetools import TTLCache

from consts import ImageFormat

# A name is 32 random characters: 16 of its answer, then 16 of its own, so that one link does not reveal the others.
_RANDOM_BYTES = 12
_RANDOM_CHARACTERS = 16


@dataclass(frozen=True)
class LinkedAnswer:
    """The encoded images of one answer by name, and when they expire by the store's clock."""

    images: Mapping[str, bytes]
    media_type: str
    expires_at: float


@dataclass(frozen=True)
class LinkedImage:
    """An encoded image and the whole seconds for which its link still works."""

    data: bytes
    media_type: str
    seconds_left: int


class LinkStore:
    """Encoded images in memory, each answer's for `seconds`, in `max_bytes` altogether.

    Past `max_bytes` the answer whose images were not fetched for longest is dropped as a whole: dropping single images would
    break links of an answer that is still being written. An answer larger than `max_bytes` is kept alone.

    They are in memory because they are copies for an hour of images that clients can also get in the answer. No folder must be
    writable, can fill up, or is left over after a crash. A restart forgets them.
    """

    def __init__(self, seconds: float, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._max_bytes, self._clock = seconds, max_bytes, clock
        # Without a limit of its own, with which it would refuse an answer that is larger.
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
        """How much memory the images take, in bytes."""
        with self._lock:
            return int(self._answers.currsize)


def _size_of(answer: LinkedAnswer) -> int:
    return sum(len(data) for data in answer.images.values())
