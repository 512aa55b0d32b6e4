"""The handle of a request that is being drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol

from PIL import Image

from engine.errors import Cancelled
from engine.events import Event, ImageDone
from engine.request import DrawingRequest

CANCEL_POLL_SECONDS = 0.25  # the longest time between two calls of `is_cancelled`


class EventSource(Protocol):
    """The engine's side of a drawing."""

    def events(self, tick: float | None = None, *, progress: bool = True) -> Iterator[Event]:
        """Return the events until the request is done, without `Progress` if `progress` is False."""


class Drawing:
    """The caller's handle of a request: its events for callers who stream, its images for callers who wait.

    Call either `events` or `result`, once. An error cancels the drawing, and so does a caller that stops reading the events, or
    the end of a `with` block.

    Args:
        request: What is drawn: every seed and setting is filled in.
        model: The name of the model that draws.
        source: The engine's side of the drawing.
        cancel: Stops the engine's work; without effect once the drawing is done.
    """

    def __init__(self, request: DrawingRequest, model: str, source: EventSource, cancel: Callable[[], None]) -> None:
        self.request = request
        self.model = model
        self.cancel = cancel
        self._source = source
        self._images: dict[int, ImageDone] = {}

    @property
    def seeds(self) -> list[int]:
        """Each image's seed."""
        return list(self.request.seeds)

    @property
    def images(self) -> list[Image.Image]:
        """The images that are finished so far, in order. A seamless drawing has a single picture."""
        return [self._images[index].image for index in sorted(self._images)]

    @property
    def scores(self) -> list[float] | None:
        """Each finished image's mean log-likelihood in nats, in order; None if there was one candidate of each."""
        scores = [self._images[index].score for index in sorted(self._images)]
        return [score for score in scores if score is not None] or None

    def events(self, tick: float | None = None) -> Iterator[Event]:
        """Yield `Queued`, `Progress`, `Preview` and `ImageDone` until the drawing is done.

        With `tick`, a `Tick` comes whenever nothing happened for that many seconds.
        Raises DeadlineExceeded, GenerationFailed, or EngineClosed if the engine stops first.
        """
        return self._read(self._source.events(tick))

    def result(self, is_cancelled: Callable[[], bool] | None = None) -> list[Image.Image]:
        """Wait for the images and return them, 256 x 256 each unless seamless.

        `is_cancelled` is called a few times a second; once it returns True, drawing stops and Cancelled is raised. Raises what
        `events` raises.
        """
        tick = None if is_cancelled is None else CANCEL_POLL_SECONDS
        for _ in self._read(self._source.events(tick, progress=False)):
            if is_cancelled is not None and is_cancelled():
                self.cancel()
                raise Cancelled("the caller has cancelled the drawing")
        return self.images

    def _read(self, events: Iterator[Event]) -> Iterator[Event]:
        try:
            for event in events:
                if isinstance(event, ImageDone):
                    self._images[event.index] = event
                yield event
        finally:
            self.cancel()

    def __enter__(self) -> Drawing:
        """Return the drawing, which the end of the block cancels."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Cancel what is not done."""
        self.cancel()
