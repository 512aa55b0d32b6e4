"""Figures with their spread, beside what they are compared with; as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

MIN_DALLE = "min-dalle"


@dataclass
class Figure:
    """Hold one figure: what was measured in each round, and in the same rounds what it is compared with.

    `compared` says how: `less` of it is better, or `more`; what `share` of a limit is reached; how many times as long it `lasts`.
    """

    part: str
    name: str
    unit: str
    compared: Literal["less", "more", "share", "lasts"] = "less"
    beside: str = MIN_DALLE
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Compare round by round; empty where there is nothing to compare with."""
        pairs = list(zip(self.ours, self.theirs, strict=False))  # an interrupted run has one side of its last round
        if self.compared in ("less", "share"):
            return [theirs / ours for ours, theirs in pairs]
        return [ours / theirs for ours, theirs in pairs]

    def row(self) -> str:
        """Write the figure as a row of a Markdown table: median (least to greatest)."""
        theirs = _spread(self.theirs, self.unit)
        if theirs and self.beside != MIN_DALLE:
            theirs = f"{self.beside}: {theirs}"
        return f"| {self.name} | {theirs} | {_spread(self.ours, self.unit)} | {self._ratio()} |"

    def _ratio(self) -> str:
        if self.compared == "share":
            return _spread([100 * ratio for ratio in self.ratios], "%")
        return _spread(self.ratios, "x as long" if self.compared == "lasts" else "x")

    def as_json(self) -> dict[str, Any]:
        """Give everything that was measured."""
        compared = {"with": self.beside, "how": self.compared, "values": self.theirs, "ratios": self.ratios}
        return {"part": self.part, "name": self.name, "unit": self.unit, "ours": self.ours, "compared": compared}


class Figures:
    """Gather figures, and keep them in a file as they come, so that an interrupted run leaves what it has."""

    def __init__(self, about: dict[str, Any], file: Path | None = None) -> None:
        """`about` says what was measured where; it stands above the table and in the file."""
        self._about, self._file = about, file
        self._figures: dict[tuple[str, str], Figure] = {}

    def add(self, figure: Figure, ours: float | None = None, theirs: float | None = None) -> None:
        """Add a round's measure to the figure of that part and name, on either side or both."""
        known = self._figures.setdefault((figure.part, figure.name), figure)
        known.ours += [] if ours is None else [ours]
        known.theirs += [] if theirs is None else [theirs]
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures.values())

    def table(self) -> str:
        """Write everything as one Markdown table, with what was measured where above it."""
        about = ", ".join(f"{value}" if key == "machine" else f"{key} {value}" for key, value in self._about.items())
        rows = [figure.row() for figure in self._figures.values()]
        return "\n".join([about, "", "| | min-dalle | ours | ratio |", "| --- | --- | --- | --- |", *rows])

    def as_json(self) -> dict[str, Any]:
        """Give everything that was measured."""
        return {"about": self._about, "figures": [figure.as_json() for figure in self._figures.values()]}


def _spread(values: Sequence[float], unit: str) -> str:
    """Write a median with its least and greatest value."""
    if not values:
        return ""
    middle = f"{_short(statistics.median(values))} {unit}"
    return middle if len(values) == 1 else f"{middle} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def machine() -> str:
    """Name the processor and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = names[0] if names else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
