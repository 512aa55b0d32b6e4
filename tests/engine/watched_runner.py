"""A runner that computes as the one it wraps, notes what it is asked, and waits or fails when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batching.job import Job
from engine.events import ImageDone
from engine.request import DrawingRequest, SamplingSettings
from engine.runners import Runner


class WatchedRunner:
    """Be a `Runner`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.calls: list[tuple[str, int]] = []  # each method's name, and how many images, in order
        self.faults: dict[str, list[BaseException]] = {}  # what a method's next calls raise
        self.most_rows = 1000  # a step with more exhausts memory
        self.largest_grid = 1000  # tokens high or wide: a larger picture exhausts memory
        self.spoiled_row: int | None = None  # whose logits have a NaN at the next step
        self._may_step, self._is_held = threading.Event(), threading.Event()
        self._may_step.set()

    def hold(self) -> None:
        """Let no step begin from the next one on."""
        self._is_held.clear()
        self._may_step.clear()

    def wait_until_held(self) -> None:
        """Wait until a step is about to begin, and is held."""
        assert self._is_held.wait(60)

    def go(self) -> None:
        """Let steps begin."""
        self._may_step.set()

    @property
    def batch_sizes(self) -> list[int]:
        """Return how many images each step had."""
        return [count for name, count in self.calls if name == "step"]

    def encode(self, text_tokens: Sequence[int]) -> Any:
        self._note("encode", 1)
        return self._runner.encode(text_tokens)

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
        if len(tokens) > self.most_rows:
            raise MemoryError("no more room")
        logits = self._runner.step(tokens, positions)
        if self.spoiled_row is not None:
            logits = logits.copy()
            logits[self.spoiled_row, 1, 7], self.spoiled_row = np.nan, None
        return logits

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        self._note("detokenize", len(grids))
        if grids.shape[1] > self.largest_grid or grids.shape[2] > self.largest_grid:
            raise MemoryError("no more room")
        return self._runner.detokenize(grids)

    def _note(self, name: str, count: int) -> None:
        self.calls.append((name, count))
        if self.faults.get(name):
            raise self.faults[name].pop(0)


def request(prompt: str = "a red circle", seeds: tuple[int, ...] = (1,), **fields: Any) -> DrawingRequest:
    """Ask for images as Tiny draws them."""
    return DrawingRequest(prompt, seeds, SamplingSettings(0.8, 64, 2.5), **fields)


def images_of(job: Job) -> dict[int, bytes]:
    """Wait for a job's images."""
    return {event.index: event.image.tobytes() for event in job.events() if isinstance(event, ImageDone)}


def wait_for(job: Job, is_it: Callable[[Any], bool]) -> Any:
    """Wait for an event of a job."""
    return next(event for event in job.events() if is_it(event))
