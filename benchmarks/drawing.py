"""Whole images in this process: min-dalle, then ours in each precision, in turn, with the same weights and threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from tqdm import tqdm

from benchmarks.figures import Figure, Figures
from benchmarks.plan import PROMPT, Plan
from benchmarks.reference import min_dalle_on
from engine.batching.engine import Engine
from engine.request import DrawingRequest
from engine.runners import LogitsRunner, SamplingRunner, default_cache, logits_runner_on
from engine.weights.checkpoint import Checkpoint


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_drawing(checkpoint: Checkpoint, plan: Plan, figures: Figures) -> None:
    """Measure images drawn at once. Each round has all numbers of images, so that an interrupted run has them too."""
    theirs = min_dalle_on(checkpoint)
    torch.set_num_threads(plan.threads)  # importing min-dalle sets it to all of the host's cores
    engines = {
        name: engine_on(checkpoint, logits_runner_on(checkpoint, precision, plan.threads, default_cache()), plan)
        for name, precision in plan.chosen.items()
    }
    turns = [(images, name) for _ in range(plan.rounds) for images in plan.images for name in (None, *engines)]
    try:
        _warm(checkpoint, engines, plan)
        with tqdm(turns, desc="drawing", unit="drawing") as bar:
            for images, name in bar:
                bar.set_postfix_str(f"{images} images, {name or 'min-dalle'}")
                if name is None:
                    slow = seconds(partial(theirs.generate_image, PROMPT, seed=1, grid_size=int(images**0.5)))
                    continue
                ours = seconds(partial(draw, engines[name], images))
                figures.add(Figure("drawing", _name(images, name), "s"), ours, slow)
    finally:
        for engine in engines.values():
            engine.close()


def engine_on(checkpoint: Checkpoint, runner: LogitsRunner, plan: Plan) -> Engine:
    """Start an engine for the plan's largest number of images."""
    sampling = SamplingRunner(runner, checkpoint.config)
    return Engine(lambda: (checkpoint, sampling), max(plan.images))


def _warm(checkpoint: Checkpoint, engines: dict[str, Engine], plan: Plan) -> None:
    """Warm up both sides: ours draws once for each number of images, min-dalle the first eighth of an image."""
    next(min_dalle_on(checkpoint).generate_image_stream(PROMPT, seed=1, grid_size=1, progressive_outputs=True))
    for engine in engines.values():
        for images in plan.images:
            draw(engine, images)


def draw(engine: Engine, images: int) -> None:
    """Draw images of the plan's prompt at once."""
    drawn = list(engine.submit(DrawingRequest(PROMPT, tuple(range(images)))).events())
    assert drawn


def _name(images: int, precision: str) -> str:
    return f"{images} {'image' if images == 1 else 'images'}, {precision}"
