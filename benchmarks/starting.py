"""Starts: the seconds until the server is ready, and its peak memory for the start and a batch of images."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tqdm import tqdm

from benchmarks.calling import draw_together
from benchmarks.figures import Figure, Figures
from benchmarks.plan import Plan
from benchmarks.server_process import min_dalle_command, our_command_with_weights, running


def measure_starting(models_root: Path, plan: Plan, figures: Figures) -> None:
    """Start min-dalle's server, ours for the first time, and ours again, in turn. Each draws one image before it is ready.

    With the part `memory`, ours also draws a batch; min-dalle's memory is that after one image.
    """
    for _ in tqdm(range(plan.rounds), desc="starting", unit="round"):
        with running(min_dalle_command(plan, models_root)) as theirs:
            slow, large = theirs.seconds_to_ready, theirs.peak_gigabytes()
        with tempfile.TemporaryDirectory() as cache_dir:
            for which in ("first", "second"):
                with running(our_command_with_weights(plan, models_root, Path(cache_dir))) as ours:
                    if "starting" in plan.parts:
                        figures.add(Figure("starting", f"{which} start to ready", "s"), ours.seconds_to_ready, slow)
                    if "memory" in plan.parts:
                        draw_together(ours.url, plan.batch)
                        name = f"peak memory, {which} start, {plan.batch} images at once"
                        figures.add(Figure("memory", name, "GB"), ours.peak_gigabytes(), large)
