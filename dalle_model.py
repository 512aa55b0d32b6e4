"""The model as the server and other programs use it: prompts in, PIL images out.

    >>> DalleModel("tiny").generate_images("a red circle", 4, seed=1)      # four PIL images

Importing this module does not import torch; creating a `DalleModel` does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

import engine.min_dalle
from engine.batching.statistics import EngineState, Observer
from engine.drawing import Drawing
from engine.errors import (
    FORKED,
    CallerQueueFull,
    Cancelled,
    CheckpointError,
    DalleError,
    DeadlineExceeded,
    EngineClosed,
    ForkedProcess,
    GenerationFailed,
    HubUnreachable,
    InvalidRequest,
    QueueFull,
)
from engine.events import Event, ImageDone, Preview, Progress, Queued, Tick
from engine.interface import DrawingEngine
from engine.request import (
    IMAGE_TOKEN_COUNT,
    PREVIEW_EVERY,
    PREVIEWS,
    TEXT_TOKEN_COUNT,
    DrawingRequest,
    SamplingSettings,
    consecutive_seeds,
)
from engine.weights.known_words import KnownWords

__all__ = [
    "FORKED",
    "IMAGE_TOKEN_COUNT",
    "PREVIEWS",
    "PREVIEW_EVERY",
    "CallerQueueFull",
    "Cancelled",
    "CheckpointError",
    "DalleError",
    "DalleModel",
    "DeadlineExceeded",
    "Drawing",
    "DrawingRequest",
    "EngineClosed",
    "EngineState",
    "Event",
    "ForkedProcess",
    "GenerationFailed",
    "HubUnreachable",
    "ImageDone",
    "InvalidRequest",
    "MinDalle",
    "Observer",
    "Preview",
    "Progress",
    "QueueFull",
    "Queued",
    "SamplingSettings",
    "Tick",
    "consecutive_seeds",
]


class DalleModel:
    """A loaded model. It is safe to use from many threads: their images are drawn in one batch."""

    def __init__(
        self,
        version: str = "mini",
        *,
        models_root: Path | None = None,
        device: str = "auto",
        runner: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        cache_dir: Path | None = None,
        max_batch_size: int = 32,
        max_queue: int | None = None,
        max_batch_per_caller: int | None = None,
        max_queue_per_caller: int | None = None,
        request_timeout: float | None = None,
        observer: Observer | None = None,
        show_progress: bool = False,
    ) -> None:
        """Load a model.

        Args:
            version: `tiny`, `mini`, `mega` or `mega_full`, in any case.
            models_root: A folder with weights, laid out as min-dalle's. None downloads them.
            device: `auto`, or a device by torch's name for it.
            runner: The library that computes: `auto`, `cuda`, `native`, `openvino` or `torch`.
            precision: How numbers are kept: `auto`, `float32`, `bfloat16`, `float16`, `int8` or `int4`.
            threads: Threads to compute with on a CPU. 0 takes as many as this process may use.
            cache_dir: The folder for converted models. None takes the user's cache folder.
            max_batch_size: The most images that are drawn at once.
            max_queue: The most images that wait. None sets no limit.
            max_batch_per_caller: The most images of one caller that are drawn at once. None sets no limit.
            max_queue_per_caller: The most images of one caller that wait. None sets no limit.
            request_timeout: Seconds that a request may take. None sets no limit.
            observer: Receives each measurement of the engine.
            show_progress: Whether to show progress bars on standard error.

        Raises CheckpointError if weights are missing or wrong, InvalidRequest if the version, device, runner or precision is
        not available.
        """
        from engine.batching.engine import Engine
        from engine.batching.scheduler import CallerShare
        from engine.runners import load_runner

        load = partial(
            load_runner,
            version,
            models_root=models_root,
            device=device,
            runner=runner,
            precision=precision,
            threads=threads,
            cache_dir=cache_dir,
            progress=show_progress,
        )
        share = CallerShare(_or_infinite(max_batch_per_caller), _or_infinite(max_queue_per_caller))
        self._attach(Engine(load, max_batch_size, max_queue, observer, share), version, request_timeout)

    @classmethod
    def over(cls, engine: DrawingEngine, version: str, request_timeout: float | None = None) -> DalleModel:
        """Return a model that draws with an engine that runs already, such as one over other machines."""
        model = cls.__new__(cls)
        model._attach(engine, version, request_timeout)
        return model

    def _attach(self, engine: DrawingEngine, version: str, request_timeout: float | None) -> None:
        self._engine = engine
        self._request_timeout = request_timeout
        self.name = version.capitalize()
        self.sampling: SamplingSettings = engine.sampling
        self.known_words: KnownWords | None = engine.known_words  # None: more than a list can say

    def start(self, request: DrawingRequest, caller: str | None = None) -> Drawing:
        """Queue a request and return its handle.

        Callers take turns, and then the requests of each. A request without a caller has turns of its own.
        Raises InvalidRequest for more images than there is ever room for, QueueFull, EngineClosed.
        """
        return self._start(request, self._request_timeout, caller)

    def generate_images(self, prompt: str, num_images: int = 1, *, seed: int | None = None, **sampling: Any) -> list[Image.Image]:
        """Draw images and return them, 256 x 256 each.

        Args:
            prompt: What to draw.
            num_images: How many images.
            seed: The first image's seed; image i has seed + i. None takes a random one.
            **sampling: `temperature`, `top_k`, `supercondition_factor` and `best_of` in place of the model's defaults.

        Raises InvalidRequest, and what `start` and `Drawing.result` raise.
        """
        request = DrawingRequest(prompt, consecutive_seeds(seed, num_images), self.sampling.override(**sampling))
        return self.start(request).result()

    def count_text_tokens(self, prompt: str) -> int:
        """Return how many tokens of a prompt the model reads, start and end token included: 64 at most."""
        return self._engine.count_text_tokens(prompt)

    def prompt_warnings(self, prompt: str, text_tokens: int | None = None) -> list[str]:
        """Return sentences about the parts of a prompt that have no effect: unknown words, and an end that is not read.

        `text_tokens` is what `count_text_tokens` has returned, if it was called. A machine that should count the tokens and does
        not answer costs the sentence about the end, not the drawing.
        """
        warnings = [] if self.known_words is None else self.known_words.warnings(prompt, self.name)
        # A prompt of n ASCII characters has at most n + 3 tokens: one for each, and for its first word, its start and its end.
        if text_tokens is None and (len(prompt) + 3 >= TEXT_TOKEN_COUNT or not prompt.isascii()):
            with suppress(EngineClosed):
                text_tokens = self.count_text_tokens(prompt)
        if text_tokens is not None and text_tokens >= TEXT_TOKEN_COUNT:
            about = f"{self.name} reads {TEXT_TOKEN_COUNT} tokens of a prompt, and this one has as many or more"
            warnings.append(f"{about}: words at its end may have no effect.")
        return warnings

    def warm_up(self, on_progress: Callable[[int, int], None] | None = None) -> float:
        """Draw one image, so that the first request does not wait for first-time work. Return the seconds that it took.

        `on_progress` is called with the tokens drawn and the tokens in all.
        """
        started = time.perf_counter()
        request = DrawingRequest("a red circle on a blue background", (0,), self.sampling)
        for event in self._start(request, timeout=None).events():
            if on_progress is not None and isinstance(event, Progress):
                on_progress(event.tokens_drawn, IMAGE_TOKEN_COUNT)
        return time.perf_counter() - started

    @property
    def state(self) -> EngineState:
        """A snapshot of the engine. Available while a step hangs, too."""
        return self._engine.state

    def drain(self) -> None:
        """Refuse new requests; what is queued or being drawn is finished."""
        self._engine.drain()

    def close(self, timeout: float | None = None) -> bool:
        """Stop the engine: unfinished requests end with EngineClosed. Return whether it stopped within `timeout` seconds."""
        return self._engine.close(timeout)

    def __enter__(self) -> DalleModel:
        """Return the model, which the end of the block closes."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the model."""
        self.close()

    def _start(self, request: DrawingRequest, timeout: float | None, caller: str | None = None) -> Drawing:
        job = self._engine.submit(request, timeout, caller)
        return Drawing(request, self.name, job, partial(self._engine.cancel, job))


def _or_infinite(limit: int | None) -> float:
    return math.inf if limit is None else limit


class MinDalle(engine.min_dalle.MinDalle):
    """min-dalle's class of this name on `DalleModel`: a script that imports it from here runs as it is, and faster."""

    _load_model = DalleModel


if __name__ == "__main__":
    import sys

    from draw.command import main

    sys.exit(main(sys.argv[1:], DalleModel, MinDalle))
