"""The native decoder's instruction sets beside each other: decode steps in turn, and whole images over HTTP.

A set that this CPU has stands for a CPU that has no more. For whole images, OpenVINO is limited to the same set, but for its own
kernels of attention and norms, which stay faster than they would be there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from benchmarks.calling import draw_together
from benchmarks.decoding import Decoding
from benchmarks.figures import Figure, Figures
from benchmarks.plan import Plan
from benchmarks.server_process import our_command_with_weights, running
from engine.runners import default_cache
from engine.runners.native.instructions import FORCED, InstructionSet, usable_sets
from engine.runners.native.library import load_set
from engine.runners.native.openvino_ends import NATIVE, OpenVinoEnds
from engine.runners.native.runner import NativeRunner
from engine.runners.openvino.compiled import compile_checkpoint
from engine.weights.checkpoint import Checkpoint

# What limits OpenVINO (its oneDNN) and torch to a set.
_LIMITS: Mapping[str, Mapping[str, str]] = {
    "avx512": {},
    "avxvnni": {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI", "ATEN_CPU_CAPABILITY": "avx2"},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}


def measure_steps_by_set(checkpoint: Checkpoint, plan: Plan, figures: Figures) -> None:
    """Measure the steps of whole images with each set that this CPU has, step by step in turn, with the same weights."""
    for name, precision in plan.chosen.items():
        ends = OpenVinoEnds(compile_checkpoint(checkpoint, precision, plan.threads, NATIVE))
        sets = _x86_sets()
        runners = [NativeRunner(ends, load_set(default_cache(), each), plan.threads) for each in sets]
        drawings = [images for _ in range(plan.rounds) for images in plan.images]
        for images in tqdm(drawings, desc=f"steps by instruction set, {name}", unit="drawing"):
            in_turn = zip(*(Decoding(checkpoint, runner, images).steps() for runner in runners), strict=True)
            milliseconds = 1000 * np.median([[decoded for decoded, _ in steps] for steps in in_turn], axis=0)
            for each, ours in zip(sets, milliseconds.tolist(), strict=True):
                _add(figures, f"a step of {images}, {name}", each.title, "ms", ours, sets[0], milliseconds[0])


def measure_images_by_set(models_root: Path, plan: Plan, figures: Figures) -> None:
    """Measure whole images of servers that are limited to each set, and of OpenVINO limited to AVX2, in turn."""
    sets = _x86_sets()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        servers = {each.title: stack.enter_context(_server(each, models_root, folder, plan)) for each in sets}
        servers[f"OpenVINO, {sets[-1].title}"] = stack.enter_context(
            _server(sets[-1], models_root, folder, plan, "--runner", "openvino")
        )
        for images in tqdm([each for _ in range(plan.rounds) for each in plan.images], desc="images by set", unit="round"):
            seconds = {title: draw_together(url, images).total for title, url in servers.items()}
            what = f"{images} {'image' if images == 1 else 'images'}"
            for title, ours in seconds.items():
                _add(figures, what, title, "s", ours, sets[0], seconds[sets[0].title])


def _add(figures: Figures, what: str, title: str, unit: str, ours: float, fastest: InstructionSet, theirs: float) -> None:
    figure = Figure("instruction-sets", f"{what}, {title}", unit, "lasts", fastest.title)
    figures.add(figure, ours, None if title == fastest.title else float(theirs))


def _x86_sets() -> list[InstructionSet]:
    return [each for each in usable_sets() if each.name in _LIMITS]


@contextmanager
def _server(instructions: InstructionSet, models_root: Path, cache: Path, plan: Plan, *flags: str) -> Iterator[str]:
    """Start a server that is limited to a set, draw once to warm it up, and yield its address."""
    command = [*our_command_with_weights(plan, models_root, cache), *flags]
    with running(command, {FORCED: instructions.name, **_LIMITS[instructions.name]}) as server:
        draw_together(server.url, max(plan.images))
        yield server.url
