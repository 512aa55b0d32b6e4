"""A plot of a run's figures for the README.

python -m benchmarks.plot docs/benchmarks.json docs/images/speed.png
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_THEIRS, _OURS = "#b8bec8", "#2f6fb7"


def draw_plot(results: dict[str, Any], path: Path) -> None:
    """Draw up to two panels: seconds of images drawn at once, and images per second by concurrent clients."""
    drawing = [each for each in results["figures"] if each["part"] == "drawing" and "auto" in each["name"]]
    serving = [each for each in results["figures"] if each["part"] == "serving" and each["unit"] == "images/s"]
    panels = [(title, figures) for title, figures in (("seconds", drawing), ("images a second", serving)) if figures]
    if not panels:
        raise ValueError("the results have no figures to plot: measure the parts drawing or serving")
    canvas = Figure(figsize=(4.4 * len(panels), 2.9), dpi=110, layout="constrained", facecolor="white")
    for axes, (title, figures) in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_bars(axes, title, figures)
    canvas.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path)


def _draw_bars(axes: Axes, title: str, figures: list[dict[str, Any]]) -> None:
    """Draw min-dalle's bar and ours for each figure, on a logarithmic scale, with their ratio."""
    for index, figure in enumerate(figures):
        theirs, ours = (statistics.median(values) for values in (figure["compared"]["values"], figure["ours"]))
        labels = ("min-dalle", "this server") if index == 0 else (None, None)
        for shift, value, colour, label in ((-0.2, theirs, _THEIRS, labels[0]), (0.2, ours, _OURS, labels[1])):
            axes.bar(index + shift, value, 0.38, color=colour, label=label)
            axes.annotate(
                f"{value:.2g}" if value < 10 else f"{value:.0f}", (index + shift, value), ha="center", va="bottom", fontsize=8
            )
        ratio = statistics.median(figure["compared"]["ratios"])
        axes.text(index, -0.19, f"{ratio:.0f} x", ha="center", fontsize=10, weight="bold", transform=axes.get_xaxis_transform())
    axes.set_xticks(range(len(figures)), [figure["name"].split(",")[0] for figure in figures], fontsize=9)
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.set_yticks([])
    axes.minorticks_off()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(f"{title} (logarithmic)", fontsize=10)


if __name__ == "__main__":
    draw_plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
