"""Measure our server and min-dalle in turn, in one run, with random weights at a model's true sizes: `make bench`.

python -m benchmarks --rounds 3 --json docs/benchmarks.json --plot docs/images/speed.png
"""

from __future__ import annotations

import os
import platform
import tempfile
import warnings
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cluster import measure_cluster
from benchmarks.decoding import measure_decoding
from benchmarks.drawing import measure_drawing
from benchmarks.fairness import measure_fairness
from benchmarks.figures import Figures, machine
from benchmarks.gpu import measure_gpu
from benchmarks.instruction_sets import measure_instruction_sets
from benchmarks.plan import Plan, read_plan
from benchmarks.profile import measure_profile
from benchmarks.random_weights import SIZES, write_models_root
from benchmarks.serving import measure_serving, measure_tiny
from benchmarks.starting import measure_starting
from engine.weights.checkpoint import Checkpoint, load_checkpoint

IN_PROCESS: dict[str, Callable[[Checkpoint, Plan, Figures], None]] = {
    "drawing": measure_drawing,
    "decoding": measure_decoding,
    "profile": measure_profile,
    "instruction-sets": measure_instruction_sets,
}


def about(plan: Plan) -> dict[str, Any]:
    """Return what is measured, and on which machine."""
    return {
        "machine": machine(),
        "threads": plan.threads,
        "model": plan.model.capitalize(),
        "rounds": plan.rounds,
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("min-dalle", "torch", "openvino")},
    }


def measure(models_root: Path, plan: Plan, figures: Figures) -> None:
    """Measure the plan's parts, those in this process first, so that it has no weights in memory while servers are measured."""
    _measure_in_process(models_root, plan, figures)
    if "serving" in plan.parts:
        measure_serving(models_root, plan, figures)
    if {"starting", "memory"} & set(plan.parts):
        measure_starting(models_root, plan, figures)
    if "tiny" in plan.parts:
        measure_tiny(plan, figures)
    if "fairness" in plan.parts:
        measure_fairness(plan, figures)
    if "gpu" in plan.parts:
        measure_gpu(plan, figures)
    if "cluster" in plan.parts:
        measure_cluster(plan, figures)


def _measure_in_process(models_root: Path, plan: Plan, figures: Figures) -> None:
    parts = [work for part, work in IN_PROCESS.items() if part in plan.parts]
    if parts:
        checkpoint = load_checkpoint(plan.model, models_root=models_root, progress=False)
        for work in parts:
            work(checkpoint, plan, figures)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON and a plot; an interrupted run still prints its figures."""
    plan, given = read_plan(arguments)
    warnings.simplefilter("ignore")  # min-dalle uses torch's deprecated names
    os.environ.pop("MKL_CBWR", None)  # our torch runner's setting; min-dalle is measured with its defaults
    figures = Figures(about(plan), given.json)
    try:
        with tempfile.TemporaryDirectory() as folder:
            if not set(plan.parts) <= {"tiny", "fairness", "gpu", "cluster"}:
                print("Writing random weights ...", flush=True)
                write_models_root(Path(folder), SIZES[plan.model], model=plan.model)
            measure(Path(folder), plan, figures)
    except KeyboardInterrupt:
        print("\nInterrupted; so far:")
    print(f"\n{figures.table()}\n\nEvery round: {given.json}")
    if given.plot is not None:
        # Imported here: only a plot needs matplotlib.
        from benchmarks.plot import draw_plot

        draw_plot(figures.as_json(), given.plot)


if __name__ == "__main__":
    main()
