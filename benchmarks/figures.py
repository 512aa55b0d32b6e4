"""Figures with their spread, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path


def spread(values: Sequence[float], unit: str = "s") -> str:
    """Write a median with its least and greatest value."""
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


def ratio(slow: Sequence[float], fast: Sequence[float]) -> str:
    """Write how many times faster, round by round, with the spread."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return f"{statistics.median(ratios):.1f} x ({min(ratios):.1f} to {max(ratios):.1f})"


def machine() -> str:
    """Name the processor and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = names[0] if names else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
