"""Say where the time of one decode step goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import openvino as ov
from tqdm import tqdm

from benchmarks.decoding import Decoding
from benchmarks.figures import Figure, Figures
from benchmarks.plan import Plan
from engine.checkpoint import Checkpoint
from engine.runners.openvino.compiled import compile_checkpoint
from engine.runners.openvino.runner import OpenVinoRunner

_SHOWN = 6  # kinds of nodes


class _Watched:
    """Be a compiled model that remembers the request made of it, whose counters are to be read."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self.inputs = compiled.inputs
        self._compiled = compiled

    def create_infer_request(self) -> ov.InferRequest:
        """Make a request, as the compiled model does."""
        self._request = self._compiled.create_infer_request()
        return self._request

    def seconds(self, calls: int) -> Counter[str]:
        """Return what `calls`, all so far, took by kind of node: the counters are means over them, in whole microseconds."""
        spent: Counter[str] = Counter()
        for node in self._request.get_profiling_info():
            spent[node.node_type] += calls * node.real_time.total_seconds()
        return spent


def measure_profile(checkpoint: Checkpoint, plan: Plan, figures: Figures) -> None:
    """Measure the milliseconds of a step by kind of node, with OpenVINO's counters on, which themselves cost a little."""
    for name, precision in plan.chosen.items():
        counting = replace(precision, decoding={**precision.decoding, "PERF_COUNT": True})
        compiled = compile_checkpoint(checkpoint, counting, plan.threads)
        watched: Any = _Watched(compiled.decoding)
        runner = OpenVinoRunner(replace(compiled, decoding=watched))
        calls, before = 0, Counter[str]()
        drawings = [(images, is_warm) for images in plan.images for is_warm in (False, *[True] * plan.rounds)]
        for images, is_warm in tqdm(drawings, desc=f"profile, {name}", unit="drawing"):
            steps = list(Decoding(checkpoint, runner, images).steps())
            calls += len(steps)
            after = watched.seconds(calls)
            if is_warm:
                for kind, seconds in _spent(steps, after - before).items():
                    figures.add(Figure("profile", f"a step of {images}, {name}: {kind}", "ms"), 1000 * seconds / len(steps))
            before = after


def _spent(steps: Sequence[tuple[float, float]], nodes: Counter[str]) -> dict[str, float]:
    """Return the seconds of all steps by where they were spent: the longest kinds of nodes first, then the rest."""
    runner, sampling = (sum(part) for part in zip(*steps, strict=True))
    kinds = dict(nodes.most_common(_SHOWN))
    return {
        **kinds,
        "other nodes": nodes.total() - sum(kinds.values()),
        "between nodes": runner - nodes.total(),
        "sampling": sampling,
        "all": runner + sampling,
    }
