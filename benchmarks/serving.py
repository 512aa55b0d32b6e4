"""Our server through HTTP, compared with a plain Flask server around min-dalle."""

from __future__ import annotations

import tempfile
from pathlib import Path

import requests
from tqdm import tqdm

from benchmarks.calling import draw, draw_late, draw_together, first_preview
from benchmarks.drawing import seconds
from benchmarks.figures import Figure, Figures
from benchmarks.plan import PROMPT, Plan
from benchmarks.server_process import min_dalle_command, our_command, our_command_with_weights, running

TINY_ROUNDS = 5  # at least
TINY_CALLERS = 20


def measure_serving(models_root: Path, plan: Plan, figures: Figures) -> None:
    """Measure images per second by concurrent clients, the first preview, and a late request; only one server works at a time."""
    with (
        tempfile.TemporaryDirectory() as cache_dir,
        running(min_dalle_command(plan, models_root)) as theirs,
        running(our_command_with_weights(plan, models_root, Path(cache_dir))) as ours,
    ):
        for _ in tqdm(range(plan.rounds), desc="serving", unit="round"):
            count = plan.reference_callers
            slow = count / draw_together(theirs.url, count).total
            _measure_callers(ours.url, slow, plan, figures)
            preview = seconds(lambda: requests.post(f"{theirs.url}/preview", json={"text": PROMPT}).raise_for_status())
            figures.add(Figure("serving", "first preview", "s"), first_preview(ours.url), preview)
            _measure_late_caller(ours.url, plan, figures)


def _measure_callers(url: str, slow: float, plan: Plan, figures: Figures) -> None:
    for callers in plan.callers:
        busiest = callers == max(plan.callers)
        together = draw_together(url, callers, say_hello=busiest)
        name = f"{callers} {'caller' if callers == 1 else 'callers at once'}"
        figures.add(Figure("serving", name, "images/s", "more"), callers / together.total, slow)
        if busiest:
            for hello in together.hellos:
                figures.add(Figure("serving", f"`GET /` beside {callers} callers", "ms"), 1000 * hello)


def _measure_late_caller(url: str, plan: Plan, figures: Figures) -> None:
    """Compare a request that comes when a batch is half drawn with the mean of a batch with one more image, started together."""
    name = f"an image, asked for when {plan.batch} others are half drawn"
    beside = f"one of {plan.batch + 1} begun together"
    together = draw_together(url, plan.batch + 1)
    figures.add(
        Figure("serving", name, "s", "lasts", beside), draw_late(url, plan.batch), sum(together.each) / len(together.each)
    )


def measure_tiny(plan: Plan, figures: Figures) -> None:
    """Measure the built-in Tiny, which min-dalle can't load: its start, one client, and many at once."""
    # Tiny draws several candidates for each image, and the queue counts all.
    with running(our_command("--max_queue", str(8 * TINY_CALLERS), model="tiny", threads=plan.threads)) as server:
        figures.add(Figure("tiny", "Tiny: start to ready", "s"), server.seconds_to_ready)
        draw(server.url, 0)
        for _ in tqdm(range(max(plan.rounds, TINY_ROUNDS)), desc="tiny", unit="round"):
            figures.add(Figure("tiny", "Tiny: 1 image", "s"), draw(server.url, 0))
            turns = sum(draw(server.url, number) for number in range(TINY_CALLERS))
            together = draw_together(server.url, TINY_CALLERS, say_hello=True)
            many = Figure("tiny", f"Tiny: {TINY_CALLERS} images, {TINY_CALLERS} callers at once", "s", beside="in turn")
            figures.add(many, together.total, turns)
            for hello in together.hellos:
                figures.add(Figure("tiny", "Tiny: `GET /` meanwhile", "ms"), 1000 * hello)
