"""What a drawing tells its caller while it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Queued:
    """A request's place in the queue: 1 is next, 0 means that its first image is being drawn."""

    position: int


@dataclass(frozen=True)
class Progress:
    """How many tokens of image `index` are drawn."""

    index: int
    tokens_drawn: int


@dataclass(frozen=True)
class Preview:
    """Image `index` as far as it is drawn; the rest is grey. Those of a seamless drawing show all its images, with index 0."""

    index: int
    tokens_drawn: int
    image: Image.Image


@dataclass(frozen=True)
class ImageDone:
    """Finished image `index`. A seamless drawing has one, of index 0."""

    index: int
    seed: int
    image: Image.Image
    score: float | None = None  # mean log-likelihood of its tokens in nats; None if there was one candidate


@dataclass(frozen=True)
class Tick:
    """Nothing happened for a while. The caller can do other work, such as looking whether its own client is still there."""


Event = Queued | Progress | Preview | ImageDone | Tick
