"""The thin wrapper between HTTP and the engine: prompts in, PIL images out.

    >>> DalleModel("tiny").generate_images("a red circle", 4, seed=1)      # four PIL images

Importing this costs no torch; building a `DalleModel` does.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from PIL import Image

from consts import MAX_SEED
from engine.batching.statistics import EngineState, Observer
from engine.errors import (
    Cancelled,
    CheckpointError,
    DalleError,
    DeadlineExceeded,
    EngineClosed,
    GenerationFailed,
    HubUnreachable,
    InvalidRequest,
    QueueFull,
)
from engine.events import Event, ImageDone, Preview, Progress, Queued, Tick
from engine.request import IMAGE_TOKEN_COUNT, PREVIEW_EVERY, PREVIEWS, ImageRequest, SamplingSettings

__all__ = [
    "IMAGE_TOKEN_COUNT",
    "PREVIEW_EVERY",
    "Cancelled",
    "CheckpointError",
    "DalleError",
    "DalleModel",
    "DeadlineExceeded",
    "Drawing",
    "EngineClosed",
    "EngineState",
    "Event",
    "GenerationFailed",
    "HubUnreachable",
    "ImageDone",
    "InvalidRequest",
    "Observer",
    "Preview",
    "Progress",
    "QueueFull",
    "Queued",
    "SamplingSettings",
    "Tick",
]

CANCEL_POLL_SECONDS = 0.25  # how often a caller's `is_cancelled` is asked at least


@dataclass(frozen=True)
class Drawing:
    """Hold what was drawn for one prompt.

    `seeds[i]` is image i's. A seamless drawing is one picture made of all of them.
    """

    images: list[Image.Image]
    seeds: list[int]
    settings: SamplingSettings


class DalleModel:
    """Draw pictures from prompts with a loaded model. Safe to call from many threads: they are drawn in one batch."""

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
        request_timeout: float | None = None,
        observer: Observer | None = None,
        show_progress: bool = False,
    ) -> None:
        """Load a model: `tiny`, `mini`, `mega` or `mega_full`, in any case.

        `runner`, `precision` and `threads` say how it is computed, `cache_dir` where compiled models are kept: see `load_runner`.
        At most `max_queue` images wait, and a request has `request_timeout` seconds: None sets no limit. `observer` is told
        each measure that the engine takes.
        Raises CheckpointError where its weights are missing or wrong, InvalidRequest for a version, device, runner or
        precision that is not to be had.
        """
        from engine.batching.engine import Engine
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
        self._engine = Engine(load, max_batch_size, max_queue, observer)
        self._request_timeout = request_timeout
        self.name = version.capitalize()
        self.sampling: SamplingSettings = self._engine.config.sampling

    def stream(
        self,
        prompt: str,
        num_images: int = 1,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        supercondition_factor: float | None = None,
        seamless: bool = False,
        previews: bool | Sequence[int] = True,
        tick: float | None = None,
    ) -> Generator[Event, None, None]:
        """Draw pictures and yield `Queued`, `Progress`, `Preview` and `ImageDone` on the way; closing the generator stops it.

        Image i has seed `seed + i`; without a seed, one is drawn at random. What is not given is the model's default.
        `previews` are shown at each 32nd token, or at the numbers of tokens that are given; a busy engine leaves some out.
        `seamless` joins all images into one picture, which has none. With `tick`, a `Tick` comes whenever nothing
        happened for that many seconds.
        Raises InvalidRequest at once, QueueFull or EngineClosed instead of the first event, DeadlineExceeded, GenerationFailed
        or EngineClosed while drawing.
        """
        request = ImageRequest(
            prompt,
            _seeds(seed, num_images),
            self._settings(temperature, top_k, supercondition_factor),
            previews=() if seamless or previews is False else PREVIEWS if previews is True else tuple(previews),
            seamless=seamless,
        )
        return self._events(request, timeout=self._request_timeout, tick=tick)

    def draw(
        self,
        prompt: str,
        num_images: int = 1,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        supercondition_factor: float | None = None,
        seamless: bool = False,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> Drawing:
        """Draw pictures; return them with their seeds and settings. See `stream` for the arguments and errors.

        `is_cancelled` is asked a few times a second; raises Cancelled, and stops drawing, once it says so.
        """
        settings = self._settings(temperature, top_k, supercondition_factor)
        request = ImageRequest(prompt, _seeds(seed, num_images), settings, seamless=seamless, progress=False)
        done: dict[int, Image.Image] = {}
        tick = None if is_cancelled is None else CANCEL_POLL_SECONDS
        with closing(self._events(request, timeout=self._request_timeout, tick=tick)) as events:
            for event in events:
                if is_cancelled is not None and is_cancelled():
                    raise Cancelled("the caller wants the images no more")
                if isinstance(event, ImageDone):
                    done[event.index] = event.image
        return Drawing([done[index] for index in sorted(done)], list(request.seeds), settings)

    def generate_images(
        self,
        prompt: str,
        num_images: int = 1,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        supercondition_factor: float | None = None,
    ) -> list[Image.Image]:
        """Draw pictures; return just them, 256 x 256 each. See `stream` for the arguments and errors."""
        return self.draw(
            prompt,
            num_images,
            seed=seed,
            temperature=temperature,
            top_k=top_k,
            supercondition_factor=supercondition_factor,
        ).images

    def count_text_tokens(self, prompt: str) -> int:
        """Count the tokens that the model reads of a prompt, start and end token included: 64 at most."""
        return self._engine.count_text_tokens(prompt)

    def warm_up(self, on_progress: Callable[[int, int], None] | None = None) -> float:
        """Draw one picture for nobody, so that the first caller doesn't wait for first-time work; return the seconds it took.

        `on_progress` is told (tokens drawn, tokens in all).
        """
        started = time.perf_counter()
        request = ImageRequest("a red circle on a blue background", (0,), self.sampling)
        for event in self._events(request, timeout=None):
            if on_progress is not None and isinstance(event, Progress):
                on_progress(event.tokens_drawn, IMAGE_TOKEN_COUNT)
        return time.perf_counter() - started

    @property
    def state(self) -> EngineState:
        """Show what the engine is doing and has done, at this moment; answers while a step hangs, too."""
        return self._engine.state

    def drain(self) -> None:
        """Take no new work; what is under way or waits is drawn."""
        self._engine.drain()

    def close(self, timeout: float | None = None) -> bool:
        """Stop the engine; requests under way end with EngineClosed. Tell whether it has stopped within `timeout` seconds."""
        return self._engine.close(timeout)

    def __enter__(self) -> DalleModel:
        """Return the model, to be closed at the end of a `with` block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _events(self, request: ImageRequest, *, timeout: float | None, tick: float | None = None) -> Generator[Event, None, None]:
        job = self._engine.submit(request, timeout)
        try:
            yield from job.events(tick)
        finally:
            self._engine.cancel(job)  # of no effect on one that is done

    def _settings(self, temperature: float | None, top_k: int | None, supercondition_factor: float | None) -> SamplingSettings:
        """Take what is given, the model's defaults for the rest."""
        default = self.sampling
        settings = SamplingSettings(
            default.temperature if temperature is None else temperature,
            default.top_k if top_k is None else top_k,
            default.supercondition_factor if supercondition_factor is None else supercondition_factor,
        )
        if not settings.temperature > 0:
            raise InvalidRequest("temperature", "temperature must be above 0")
        if settings.top_k < 1:
            raise InvalidRequest("top_k", "top_k must be at least 1")
        if not math.isfinite(settings.supercondition_factor):
            raise InvalidRequest("supercondition_factor", "supercondition_factor must be a finite number")
        return settings


def _seeds(seed: int | None, num_images: int) -> tuple[int, ...]:
    """Return a seed for each image: consecutive, from 0 to 2**63 - 1. Raises InvalidRequest."""
    if num_images < 1:
        raise InvalidRequest("num_images", "num_images must be at least 1")
    first = secrets.randbelow(2**32) if seed is None else seed
    if not 0 <= first <= MAX_SEED:
        raise InvalidRequest("seed", f"seed must be from 0 to {MAX_SEED}")
    if first + num_images - 1 > MAX_SEED:
        raise InvalidRequest("seed", f"seed must leave room for {num_images} images: image i has seed + i, {MAX_SEED} at most")
    return tuple(range(first, first + num_images))


if __name__ == "__main__":
    import sys

    from draw.command import main

    sys.exit(main(sys.argv[1:], DalleModel))
