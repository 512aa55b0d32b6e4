"""A request on its way: its slots, and the line on which events reach the caller."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from engine.errors import DeadlineExceeded, GenerationFailed
from engine.events import Event, Queued, Tick
from engine.request import IMAGE_TOKEN_COUNT, ImageRequest, SamplingSettings
from engine.sampler import uniforms


@dataclass(eq=False)
class Slot:
    """Hold one image being drawn: its tokens so far, and the chances that draw the rest."""

    job: Job
    index: int
    seed: int
    chances: list[float]
    tokens: list[int] = field(default_factory=list)
    admitted_at: float = 0.0  # to the batch, on the monotonic clock

    @property
    def settings(self) -> SamplingSettings:
        """Return how this image's tokens are drawn."""
        return self.job.request.settings

    @property
    def position(self) -> int:
        """Return which token comes next, 0 to 255."""
        return len(self.tokens)

    @property
    def is_drawn(self) -> bool:
        """Tell whether all tokens are there."""
        return len(self.tokens) == IMAGE_TOKEN_COUNT


class Job:
    """Hold one request, and hand its events from the engine's thread to the caller's."""

    def __init__(self, request: ImageRequest, text_tokens: list[int], timeout: float | None = None) -> None:
        """Take a request that is to be done within `timeout` seconds."""
        self.request = request
        self.text_tokens = text_tokens
        self.slots = [Slot(self, i, seed, uniforms(seed)) for i, seed in enumerate(request.seeds)]
        self.waiting = deque(self.slots)  # for a place in the batch
        self.encoded: Any = None  # the runner's, once the first image is admitted
        self.delivered = 0  # images that reached the caller
        self.is_over = False
        self.submitted_at = time.monotonic()
        self._deadline = None if timeout is None else self.submitted_at + timeout
        self._place: int | None = None
        self._events: SimpleQueue[Event | Exception | None] = SimpleQueue()

    @property
    def is_drawn(self) -> bool:
        """Tell whether every image has all its tokens."""
        return all(slot.is_drawn for slot in self.slots)

    def tell(self, event: Event) -> None:
        """Pass an event to the caller."""
        self._events.put(event)

    def tell_place(self, place: int) -> None:
        """Tell the caller their place in the line, where it has changed."""
        if place != self._place:
            self._place = place
            self.tell(Queued(place))

    def finish(self, error: Exception | None = None) -> None:
        """End the events, with an error if there was one."""
        self.is_over = True
        self._events.put(error)

    def events(self, tick: float | None = None) -> Iterator[Event]:
        """Yield the events until the request is done; `Tick` whenever `tick` seconds passed without one.

        Raises DeadlineExceeded, GenerationFailed, or EngineClosed where the engine stopped first.
        """
        while (item := self._next(tick)) is not None:
            if isinstance(item, GenerationFailed):
                raise GenerationFailed(str(item)) from item.__cause__
            if isinstance(item, Exception):
                raise item
            yield item

    def _next(self, tick: float | None) -> Event | Exception | None:
        """Wait for the next event, a tick or the deadline; the caller waits for it, so it holds while the engine hangs, too."""
        timeout = tick
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded("the images were not done in time")
            timeout = left if tick is None else min(tick, left)
        try:
            return self._events.get(timeout=timeout)
        except Empty:
            return Tick()
