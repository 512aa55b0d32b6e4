"""A request on its way: its slots, and the line on which events reach the caller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from engine.errors import GenerationFailed
from engine.request import IMAGE_TOKEN_COUNT, Event, ImageRequest, SamplingSettings, Tick
from engine.sampler import uniforms


@dataclass(eq=False)
class Slot:
    """Hold one image being drawn: its tokens so far, and the chances that draw the rest."""

    job: Job
    index: int
    seed: int
    chances: list[float]
    tokens: list[int] = field(default_factory=list)

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

    def __init__(self, request: ImageRequest, text_tokens: list[int]) -> None:
        self.request = request
        self.text_tokens = text_tokens
        self.slots = [Slot(self, i, seed, uniforms(seed)) for i, seed in enumerate(request.seeds)]
        self.encoded: Any = None  # the runner's, once the first image is admitted
        self.is_cancelled = False
        self._events: SimpleQueue[Event | Exception | None] = SimpleQueue()

    @property
    def is_drawn(self) -> bool:
        """Tell whether every image has all its tokens."""
        return all(slot.is_drawn for slot in self.slots)

    def tell(self, event: Event) -> None:
        """Pass an event to the caller."""
        self._events.put(event)

    def finish(self, error: Exception | None = None) -> None:
        """End the events, with an error if there was one."""
        self._events.put(error)

    def events(self, tick: float | None = None) -> Iterator[Event]:
        """Yield the events until the request is done; `Tick` whenever `tick` seconds passed without one.

        Raises GenerationFailed, or EngineClosed where the engine stopped first.
        """
        while (item := self._next(tick)) is not None:
            if isinstance(item, GenerationFailed):
                raise GenerationFailed(str(item)) from item.__cause__
            if isinstance(item, Exception):
                raise item
            yield item

    def _next(self, tick: float | None) -> Event | Exception | None:
        try:
            return self._events.get(timeout=tick)
        except Empty:
            return Tick()
