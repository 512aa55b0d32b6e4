"""Figures with their spread and their comparison, as a table and as JSON."""

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
    """A figure: our values, one per round, and the values of the same rounds that they are compared with.

    `compared` is how: `less` or `more` is better; the `share` of a limit that is reached; how many times as long it `lasts`.
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
        """The ratios of each round; empty if there is nothing to compare with."""
        pairs = list(zip(self.ours, self.theirs, strict=False))  # an interrupted run may have only one side of its last round
        if self.compared in ("less", "share"):
            return [theirs / ours for ours, theirs in pairs]
        return [ours / theirs for ours, theirs in pairs]

    def row(self) -> str:
        """Return the figure as a row of a Markdown table: median (least to greatest)."""
        theirs = _spread(self.theirs, self.unit)
        if theirs and self.beside != MIN_DALLE:
            theirs = f"{self.beside}: {theirs}"
        return f"| {self.name} | {theirs} | {_spread(self.ours, self.unit)} | {self._ratio()} |"

    def _ratio(self) -> str:
        if self.compared == "share":
            return _spread([100 * ratio for ratio in self.ratios], "%")
        return _spread(self.ratios, "x as long" if self.compared == "lasts" else "x")

    def as_json(self) -> dict[str, Any]:
        """Return all values, for JSON."""
        compared = {"with": self.beside, "how": self.compared, "values": self.theirs, "ratios": self.ratios}
        return {"part": self.part, "name": self.name, "unit": self.unit, "ours": self.ours, "compared": compared}


class Figures:
    """A collection of figures, saved to a file after each value, so that an interrupted run keeps its figures."""

    def __init__(self, about: dict[str, Any], file: Path | None = None) -> None:
        """`about` describes what is measured, and where; it is in the file, and above the table."""
        self._about, self._file = about, file
        self._figures: dict[tuple[str, str], Figure] = {}

    def add(self, figure: Figure, ours: float | None = None, theirs: float | None = None) -> None:
        """Add a round's values, of one side or both, to the figure with this part and name."""
        known = self._figures.setdefault((figure.part, figure.name), figure)
        known.ours += [] if ours is None else [ours]
        known.theirs += [] if theirs is None else [theirs]
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._figures.values())

    def table(self) -> str:
        """Return all figures as a Markdown table, with the description above it."""
        about = ", ".join(f"{value}" if key == "machine" else f"{key} {value}" for key, value in self._about.items())
        rows = [figure.row() for figure in self._figures.values()]
        return "\n".join([about, "", "| | min-dalle | ours | ratio |", "| --- | --- | --- | --- |", *rows])

    def as_json(self) -> dict[str, Any]:
        """Return all values, for JSON."""
        return {"about": self._about, "figures": [figure.as_json() for figure in self._figures.values()]}


def _spread(values: Sequence[float], unit: str) -> str:
    """Return the median with the least and the greatest value, as text."""
    if not values:
        return ""
    middle = f"{_short(statistics.median(values))} {unit}"
    return middle if len(values) == 1 else f"{middle} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def machine() -> str:
    """Return the processor's name and the number of cores that this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = names[0] if names else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
