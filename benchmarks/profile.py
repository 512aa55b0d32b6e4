"""A profile of decode steps by kind of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import openvino as ov
from tqdm import tqdm

from benchmarks.decoding import Decoding
from benchmarks.figures import Figure, Figures
from benchmarks.plan import Plan
from engine.runners import LogitsRunner, default_cache, logits_runner_on
from engine.runners.native.runner import NativeRunner
from engine.runners.openvino.compiled import compile_checkpoint
from engine.runners.openvino.precision import Precision
from engine.runners.openvino.runner import OpenVinoRunner
from engine.weights.checkpoint import Checkpoint

_SHOWN = 8  # kinds of work


class _ProfiledModel:
    """A compiled model that keeps its inference request, to read the request's counters."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self.inputs = compiled.inputs
        self._compiled = compiled

    def create_infer_request(self) -> ov.InferRequest:
        """Create a request, as the compiled model does."""
        self._request = self._compiled.create_infer_request()
        return self._request

    def seconds(self, calls: int) -> Counter[str]:
        """Return the seconds of all `calls` so far by kind of node; the counters are their means in whole microseconds."""
        spent: Counter[str] = Counter()
        for node in self._request.get_profiling_info():
            spent[node.node_type] += calls * node.real_time.total_seconds()
        return spent


def measure_profile(checkpoint: Checkpoint, plan: Plan, figures: Figures) -> None:
    """Measure the milliseconds of a step by kind of work; OpenVINO's counters themselves cost a little time."""
    for name, precision in plan.chosen.items():
        runner, seconds = _profiled_runner(checkpoint, precision, plan.threads)
        calls, before = 0, Counter[str]()
        drawings = [(images, is_warm) for images in plan.images for is_warm in (False, *[True] * plan.rounds)]
        for images, is_warm in tqdm(drawings, desc=f"profile, {name}", unit="drawing"):
            steps = list(Decoding(checkpoint, runner, images).steps())
            calls += len(steps)
            after = seconds(calls)
            if is_warm:
                for kind, part in _spent(steps, after - before).items():
                    figures.add(Figure("profile", f"a step of {images}, {name}: {kind}", "ms"), 1000 * part / len(steps))
            before = after


def _profiled_runner(
    checkpoint: Checkpoint, precision: Precision, threads: int
) -> tuple[LogitsRunner, Callable[[int], Counter[str]]]:
    """Return a runner, and a function from the number of steps so far to their seconds by kind of work."""
    runner = logits_runner_on(checkpoint, precision, threads, default_cache())
    if isinstance(runner, NativeRunner):
        return runner, lambda _: Counter(runner.decoder.seconds_spent())
    profiled = replace(precision, decoding={**precision.decoding, "PERF_COUNT": True})
    compiled = compile_checkpoint(checkpoint, profiled, threads)
    decoding: Any = _ProfiledModel(compiled.parts["decoding"])
    return OpenVinoRunner(replace(compiled, parts={**compiled.parts, "decoding": decoding})), decoding.seconds


def _spent(steps: Sequence[float], work: Counter[str]) -> dict[str, float]:
    """Return the seconds of all steps by kind of work: the longest kinds first, then the rest."""
    kinds = dict(work.most_common(_SHOWN))
    return {
        **kinds,
        "other work": work.total() - sum(kinds.values()),
        "between": sum(steps) - work.total(),
        "all": sum(steps),
    }
