"""A runner around a real one that records its calls, and waits or fails when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batching.job import Job
from engine.events import ImageDone
from engine.request import DrawingRequest, SamplingSettings
from engine.runners import LogitsRunner
from engine.runners.runner import Draw, Drawn
from engine.runners.sampling import draw_with_numpy


class WatchedRunner:
    """A `LogitsRunner` around another one, controlled by a test."""

    def __init__(self, runner: LogitsRunner) -> None:
        self._runner = runner
        self.calls: list[tuple[str, int]] = []  # the name of each called method and its number of images, in order
        self.faults: dict[str, list[BaseException]] = {}  # the errors that a method's next calls raise
        self.max_rows = 1000  # a step with more rows runs out of memory
        self.max_side = 1000  # a grid with more tokens on a side runs out of memory
        self.pictures_at_once = 16  # set it before the engine is made
        self.row_with_nan: int | None = None  # in the next step's logits
        self._may_step, self._is_held = threading.Event(), threading.Event()
        self._may_step.set()

    def hold(self) -> None:
        """Stop before the next step."""
        self._is_held.clear()
        self._may_step.clear()

    def wait_until_held(self) -> None:
        """Wait until a step is about to begin."""
        assert self._is_held.wait(60)

    def go(self) -> None:
        """Continue after `hold`."""
        self._may_step.set()

    @property
    def batch_sizes(self) -> list[int]:
        """The number of images in each step."""
        return [count for name, count in self.calls if name == "step"]

    def encode(self, text_tokens: Sequence[int], negative_tokens: Sequence[int] | None = None) -> Any:
        self._note("encode", 1)
        return self._runner.encode(text_tokens, negative_tokens)

    def admit(self, prompts: Sequence[Any]) -> None:
        self._note("admit", len(prompts))
        self._runner.admit(prompts)

    def rearrange(self, order: Sequence[int]) -> None:
        self._note("rearrange", len(order))
        self._runner.rearrange(order)

    def reset(self) -> None:
        self._note("reset", 0)
        self._runner.reset()

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        if not self._may_step.is_set():
            self._is_held.set()
        self._may_step.wait(60)
        self._note("step", len(tokens))
        if len(tokens) > self.max_rows:
            raise MemoryError("too many rows")
        logits = self._runner.step(tokens, positions)
        if self.row_with_nan is not None:
            logits = logits.copy()
            logits[self.row_with_nan, 1, 7], self.row_with_nan = np.nan, None
        return logits

    def draw(self, tokens: Sequence[int], positions: Sequence[int], draws: Sequence[Draw], steps: int) -> Drawn:
        return draw_with_numpy(self.step(tokens, positions), positions, draws)

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        self._note("detokenize", len(grids))
        if max(grids.shape[1:]) > self.max_side:
            raise MemoryError("too large a grid")
        return self._runner.detokenize(grids)

    def _note(self, name: str, count: int) -> None:
        self.calls.append((name, count))
        if self.faults.get(name):
            raise self.faults[name].pop(0)


def request(prompt: str = "a red circle", seeds: tuple[int, ...] = (1,), **fields: Any) -> DrawingRequest:
    """Return a request for images with sampling settings that suit Tiny."""
    return DrawingRequest(prompt, seeds, SamplingSettings(0.8, 64, 2.5), **fields)


def images_of(job: Job) -> dict[int, bytes]:
    """Return a job's images by index, once all are drawn."""
    return {event.index: event.image.tobytes() for event in job.events() if isinstance(event, ImageDone)}


def wait_for(job: Job, is_awaited: Callable[[Any], bool]) -> Any:
    """Return a job's next event for which `is_awaited` is true."""
    return next(event for event in job.events() if is_awaited(event))
