"""What the engine has done, and how fast: totals, moving averages, and a hook for every single measurement."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

_WEIGHT = 0.05  # of the newest measurement in an average


class Observer:
    """A listener for measurements; this base class ignores them. It runs on the engine's thread: be quick and do not raise."""

    def waited(self, seconds: float) -> None:
        """An image waited this long for a place in the batch."""

    def step_took(self, seconds: float, batch: int) -> None:
        """A step of `batch` images took this long."""

    def image_took(self, seconds: float) -> None:
        """An image took this long from its place in the batch to its pixels."""

    def drawn(self, images: int) -> None:
        """Images reached their callers."""

    def cancelled(self, images: int) -> None:
        """Images were cancelled, or not done in time."""

    def failed(self, images: int) -> None:
        """Images could not be drawn."""


@dataclass(frozen=True)
class EngineState:
    """The engine at one moment. Totals only grow; averages are of recent measurements, 0 before the first."""

    is_alive: bool  # the engine's thread
    is_forked: bool  # this process was forked after the model was loaded: nothing can be drawn
    is_draining: bool  # new requests are refused
    images_waiting: int
    slots_in_use: int
    batch_limit: int  # below --max_batch_size after memory ran out
    max_queue: int | None
    seconds_in_step: float  # how long the current step has been running; 0 between steps
    seconds_per_step: float
    seconds_per_image: float  # from a place in the batch to pixels
    seconds_in_queue: float
    images_drawn: int
    images_cancelled: int
    images_failed: int
    machines: int = 1  # that draw


@dataclass
class Average:
    """A moving average."""

    value: float = 0.0
    is_empty: bool = True

    def add(self, value: float) -> None:
        """Add a measurement."""
        self.value = value if self.is_empty else self.value + _WEIGHT * (value - self.value)
        self.is_empty = False


class Statistics:
    """Totals and averages. Each measurement also goes to an observer."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._step_began_at: float | None = None
        self.images_drawn = self.images_cancelled = self.images_failed = 0
        self.seconds_per_step, self.seconds_per_image, self.seconds_in_queue = Average(), Average(), Average()

    @property
    def seconds_in_step(self) -> float:
        """How long the current step has been running; 0 between steps."""
        began_at = self._step_began_at
        return 0.0 if began_at is None else time.monotonic() - began_at

    def snapshot(self, **now: Any) -> EngineState:
        """Return the totals and averages beside the fields that the engine fills in."""
        return EngineState(
            **now,
            seconds_in_step=self.seconds_in_step,
            seconds_per_step=self.seconds_per_step.value,
            seconds_per_image=self.seconds_per_image.value,
            seconds_in_queue=self.seconds_in_queue.value,
            images_drawn=self.images_drawn,
            images_cancelled=self.images_cancelled,
            images_failed=self.images_failed,
        )

    def steps_begin(self) -> None:
        """Start the clock of one or more steps."""
        self._step_began_at = time.monotonic()

    def steps_end(self, batch: int, steps: int) -> None:
        """Stop the clock of one or more steps, each a token of every image; of 0 if they failed, or there was no image."""
        seconds, self._step_began_at = self.seconds_in_step, None
        for _ in range(steps):
            self.add_step(seconds / steps, batch)

    def add_step(self, seconds: float, batch: int) -> None:
        """Add a step's time."""
        self.seconds_per_step.add(seconds)
        self._observer.step_took(seconds, batch)

    def waited(self, seconds: float) -> None:
        """Add an image's wait for a place in the batch."""
        self.seconds_in_queue.add(seconds)
        self._observer.waited(seconds)

    def drawn(self, seconds: float) -> None:
        """Count a drawn image and add its time from a place in the batch to pixels."""
        self.images_drawn += 1
        self.seconds_per_image.add(seconds)
        self._observer.image_took(seconds)
        self._observer.drawn(1)

    def cancelled(self, images: int) -> None:
        """Count images that were cancelled, or not done in time."""
        self.images_cancelled += images
        self._observer.cancelled(images)

    def failed(self, images: int) -> None:
        """Count images that could not be drawn."""
        self.images_failed += images
        self._observer.failed(images)
