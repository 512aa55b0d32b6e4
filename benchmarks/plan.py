"""The plan of a run: what it measures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.runners.openvino.precision import CPU_PRECISIONS, Precision, choose_precision
from engine.weights.models import MODELS
from host.threads import usable_threads

PROMPT = "a red circle on a blue background"
PARTS = ("drawing", "decoding", "profile", "serving", "starting", "memory", "tiny", "fairness", "gpu")
ON_REQUEST = ("cluster", "instruction-sets")  # the first needs Ray, the second several sets


@dataclass(frozen=True)
class Plan:
    """What a run measures, with which settings, and how often."""

    threads: int
    model: str = "mini"
    parts: tuple[str, ...] = PARTS
    rounds: int = 3
    images: tuple[int, ...] = (1, 4, 9)  # square numbers, as min-dalle requires
    precisions: tuple[str, ...] = ("auto", "float32")
    callers: tuple[int, ...] = (1, 8, 32)
    reference_callers: int = 1  # of min-dalle's server, which draws one image at a time: more would only wait
    batch: int = 8  # images that are half drawn when a late request comes, and that are drawn at once to measure memory

    @property
    def chosen(self) -> dict[str, Precision]:
        """The precisions by their names in the table; the name of `auto` includes the chosen precision."""
        found = {}
        for name in self.precisions:
            precision = choose_precision(name, MODELS[self.model])
            found[f"auto ({precision.name})" if name == "auto" else name] = precision
        return found


def read_plan(arguments: Sequence[str] | None = None) -> tuple[Plan, argparse.Namespace]:
    """Parse the command line; return the plan, and the arguments with the results' files (`json`, `plot`)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure our server and min-dalle in one run.")
    parser.add_argument(
        "--model_version", choices=["mini", "mega"], default="mini", help="the model whose sizes to use (default: mini)"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS + ON_REQUEST,
        default=list(PARTS),
        help=f"what to measure (default: all but {', '.join(ON_REQUEST)})",
    )
    parser.add_argument("--rounds", type=int, default=3, help="the number of repetitions (default: 3)")
    parser.add_argument(
        "--images", type=int, nargs="+", choices=[1, 4, 9], default=[1, 4, 9], help="drawn at once (default: 1 4 9)"
    )
    parser.add_argument(
        "--precision", nargs="+", choices=["auto", *CPU_PRECISIONS], help="our precisions (default: auto and, for mini, float32)"
    )
    parser.add_argument(
        "--callers", type=int, nargs="+", default=[1, 8, 32], help="concurrent clients of our server (default: 1 8 32)"
    )
    parser.add_argument("--reference_callers", type=int, default=1, help="concurrent clients of min-dalle's server (default: 1)")
    parser.add_argument("--threads", type=int, default=0, help="for both sides; 0: all that the container allows")
    parser.add_argument(
        "--json", type=Path, default=Path("benchmarks/results.json"), metavar="FILE", help="the file for all figures"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the file for a plot (default: none)")
    given = parser.parse_args(arguments)
    # Mega's weights in float32 twice, for min-dalle and for ours, take more memory than most machines have.
    precisions = given.precision or (["auto", "float32"] if given.model_version == "mini" else ["auto"])
    plan = Plan(
        threads=usable_threads(given.threads),
        model=given.model_version,
        parts=tuple(given.parts),
        rounds=given.rounds,
        images=tuple(given.images),
        precisions=tuple(dict.fromkeys(precisions)),
        callers=tuple(given.callers),
        reference_callers=given.reference_callers,
    )
    return plan, given
