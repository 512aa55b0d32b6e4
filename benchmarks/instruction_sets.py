"""The native decoder's instruction sets that this CPU has, in turn, with the same weights: decode steps, and whole images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from tqdm import tqdm

from benchmarks.decoding import Decoding
from benchmarks.drawing import draw, engine_on, seconds
from benchmarks.figures import Figure, Figures
from benchmarks.plan import Plan
from engine.runners import LogitsRunner, default_cache
from engine.runners.native.instructions import usable_sets
from engine.runners.native.library import load_set
from engine.runners.native.openvino_ends import NATIVE, OpenVinoEnds
from engine.runners.native.runner import NativeRunner
from engine.runners.native.stages import pack_detokenizer
from engine.runners.openvino.compiled import CompiledModel, compile_checkpoint
from engine.runners.openvino.runner import OpenVinoRunner
from engine.weights.checkpoint import Checkpoint

Runners = Mapping[str, LogitsRunner]  # by the titles of their sets, the fastest first


def measure_instruction_sets(checkpoint: Checkpoint, plan: Plan, figures: Figures) -> None:
    """Measure the steps of images with all sets, then whole images; in 8 bits with OpenVINO's detokenizer, and with that in C.

    The latter stand beside images that OpenVINO draws alone, with all that the CPU has.
    """
    for name, precision in plan.chosen.items():
        compiled = compile_checkpoint(checkpoint, precision, plan.threads, NATIVE)
        runners = _runners(OpenVinoEnds(compiled), plan)
        _measure_steps(checkpoint, runners, name, plan, figures)
        _measure_images(checkpoint, runners, f"{name}, pixels from OpenVINO", plan, figures)
        if precision.quantizes_pixels:
            in_c = _runners(_ends_in_c(checkpoint, compiled), plan)
            openvino = OpenVinoRunner(compile_checkpoint(checkpoint, precision, plan.threads))
            _measure_images(checkpoint, {**in_c, "OpenVINO alone": openvino}, f"{name}, pixels from C", plan, figures)


def _runners(ends: OpenVinoEnds, plan: Plan) -> Runners:
    return {each.title: NativeRunner(ends, load_set(default_cache(), each), plan.threads) for each in usable_sets()}


def _ends_in_c(checkpoint: Checkpoint, compiled: CompiledModel) -> OpenVinoEnds:
    """Return ends that encode with OpenVINO and have weights for the detokenizer in C."""
    ends = OpenVinoEnds(compiled)
    ends.detokenizer = pack_detokenizer(checkpoint.detokenizer, quantizes=True)
    return ends


def _measure_steps(checkpoint: Checkpoint, runners: Runners, name: str, plan: Plan, figures: Figures) -> None:
    """Measure each step with all sets before the next, so that all see the same load of the machine."""
    drawings = [images for _ in range(plan.rounds) for images in plan.images]
    for images in tqdm(drawings, desc=f"steps, {name}", unit="turn"):
        in_turn = zip(*(Decoding(checkpoint, runner, images).steps() for runner in runners.values()), strict=True)
        medians = np.median([[1000 * decoded for decoded in steps] for steps in in_turn], axis=0)
        _compare(figures, f"decode step of {images}, {name}", "ms", dict(zip(runners, medians.tolist(), strict=True)))


def _measure_images(checkpoint: Checkpoint, runners: Runners, name: str, plan: Plan, figures: Figures) -> None:
    engines = {title: engine_on(checkpoint, runner, plan) for title, runner in runners.items()}
    try:
        for engine in engines.values():  # the prompt is encoded, and memory allocated
            draw(engine, min(plan.images))
        drawings = [images for _ in range(plan.rounds) for images in plan.images]
        for images in tqdm(drawings, desc=f"images, {name}", unit="turn"):
            spent = {title: seconds(partial(draw, engine, images)) for title, engine in engines.items()}
            _compare(figures, f"{images} {'image' if images == 1 else 'images'}, {name}", "s", spent)
    finally:
        for engine in engines.values():
            engine.close()


def _compare(figures: Figures, name: str, unit: str, spent: Mapping[str, float]) -> None:
    """Add what each set took, and how many times as long as the fastest set."""
    (first, fastest), *others = spent.items()
    figures.add(Figure("instruction-sets", f"{name}, {first}", unit), fastest)
    for title, slower in others:
        figures.add(Figure("instruction-sets", f"{name}, {title}", unit, "lasts", first), slower, fastest)
