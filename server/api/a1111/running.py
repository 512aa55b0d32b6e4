"""The drawings of one dialect that are in progress: how far they are, and how to stop them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from dalle_model import IMAGE_TOKEN_COUNT, Drawing, Event, ImageDone, Preview, Progress


class RunningDrawing:
    """A drawing in progress: the tokens drawn of each image, and the images as far as they are drawn."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.started_at = time.monotonic()
        self._images: dict[int, Image.Image] = {}
        self._tokens = [0] * len(drawing.seeds)

    def note(self, event: Event) -> None:
        """Note what an event of the drawing tells."""
        if isinstance(event, Progress):
            # An image is not done before its picture is there.
            self._tokens[event.index] = min(event.tokens_drawn, IMAGE_TOKEN_COUNT - 1)
        elif isinstance(event, (Preview, ImageDone)):
            self._images[event.index] = event.image
            if isinstance(event, ImageDone):
                self._tokens[event.index] = IMAGE_TOKEN_COUNT

    @property
    def newest(self) -> dict[int, Image.Image]:
        """The images that can be shown, by index and in order: finished, or as far as they are drawn."""
        return dict(sorted(self._images.items()))

    @property
    def progress(self) -> float:
        """How much is drawn, 0 to 1."""
        return sum(self._tokens) / (IMAGE_TOKEN_COUNT * len(self._tokens))


class RunningDrawings:
    """The drawings in progress, oldest first. Safe to use from many threads."""

    def __init__(self) -> None:
        self._running: list[RunningDrawing] = []
        self._lock = threading.Lock()

    @contextmanager
    def track(self, drawing: Drawing) -> Iterator[RunningDrawing]:
        """Count a drawing as running inside the block."""
        running = RunningDrawing(drawing)
        with self._lock:
            self._running.append(running)
        try:
            yield running
        finally:
            with self._lock:
                self._running.remove(running)

    def snapshot(self) -> list[RunningDrawing]:
        """Return the drawings in progress."""
        with self._lock:
            return list(self._running)

    def interrupt(self) -> None:
        """Stop all of them."""
        for running in self.snapshot():
            running.drawing.cancel()
