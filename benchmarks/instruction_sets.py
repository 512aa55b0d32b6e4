"""Decode steps with each of the native decoder's instruction sets that this CPU has, in turn, with the same weights."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from benchmarks.decoding import Decoding
from benchmarks.figures import Figure, Figures
from benchmarks.plan import Plan
from engine.runners import default_cache
from engine.runners.native.instructions import usable_sets
from engine.runners.native.library import load_set
from engine.runners.native.openvino_ends import NATIVE, OpenVinoEnds
from engine.runners.native.runner import NativeRunner
from engine.runners.openvino.compiled import compile_checkpoint
from engine.weights.checkpoint import Checkpoint


def measure_instruction_sets(checkpoint: Checkpoint, plan: Plan, figures: Figures) -> None:
    """Measure the steps of whole images: each step with all sets, so that all see the same load of the machine."""
    sets = usable_sets()
    for name, precision in plan.chosen.items():
        ends = OpenVinoEnds(compile_checkpoint(checkpoint, precision, plan.threads, NATIVE))
        runners = [NativeRunner(ends, load_set(default_cache(), each), plan.threads) for each in sets]
        drawings = [images for _ in range(plan.rounds) for images in plan.images]
        for images in tqdm(drawings, desc=f"instruction sets, {name}", unit="drawing"):
            in_turn = zip(*(Decoding(checkpoint, runner, images).steps() for runner in runners), strict=True)
            fastest, *others = np.median([[1000 * decoded for decoded, _ in steps] for steps in in_turn], axis=0).tolist()
            title = f"decode step of {images}, {name}"
            figures.add(Figure("instruction-sets", f"{title}, {sets[0].title}", "ms"), fastest)
            for each, slower in zip(sets[1:], others, strict=True):
                figures.add(Figure("instruction-sets", f"{title}, {each.title}", "ms", "lasts", sets[0].title), slower, fastest)
