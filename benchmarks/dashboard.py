"""A picture of deploy/monitoring's dashboard: Prometheus watches a real server with Tiny through six minutes of load.

python -m benchmarks.dashboard docs/images/dashboard.png

Takes Debian's package `prometheus`. matplotlib draws each panel from the answers to the dashboard's own queries.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.calling import PROMPTS
from benchmarks.server_process import ROOT, our_command, running

MONITORING = ROOT / "deploy" / "monitoring"
SCRAPE_SECONDS = 2
RATE_WINDOW = "20s"
# Seconds, callers at once, images per request, and after how many seconds a caller disconnects. Fewer than the queue's 24 images
# wait, except with 8 callers of 6 images.
LOAD = ((30, 0, 0, None), (90, 1, 1, None), (90, 4, 2, None), (60, 8, 6, None), (60, 4, 4, 2.0), (30, 0, 0, None))
SETTINGS = ("--max_batch_size", "8", "--max_queue", "24", "--save_to_disk", "true", "--max_disk_mb", "12", "--img_format", "png")

UNITS = {"short": "{:g}", "reqps": "{:g}", "s": "{:g} s", "bytes": "{:.0f} MiB", "percentunit": "{:.0%}"}


def apply_load(url: str) -> None:
    """Call a server as LOAD says."""
    for seconds, callers, images, patience in LOAD:
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(max(callers, 1)) as pool:
            for number in range(callers):
                pool.submit(call_until, end, url, {"text": PROMPTS[number % len(PROMPTS)], "num_images": images}, patience)
        time.sleep(max(end - time.monotonic(), 0))


def call_until(end: float, url: str, body: dict[str, Any], patience: float | None) -> None:
    """Request images again and again; wait a moment after a refusal."""
    while time.monotonic() < end:
        with suppress(requests.Timeout):
            if requests.post(f"{url}/dalle", json=body, timeout=patience).status_code == 429:
                time.sleep(0.5)


@contextmanager
def prometheus(server: str, folder: Path) -> Iterator[str]:
    """Run Prometheus with our configuration for a server; yield its address."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {name: f"{SCRAPE_SECONDS}s" for name in config["global"]}
    config["rule_files"] = [str(MONITORING / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [server.removeprefix("http://")]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = "127.0.0.1:9099"
    files = ("--config.file", str(folder / "prometheus.yml"), "--storage.tsdb.path", str(folder / "data"))
    with subprocess.Popen(["prometheus", *files, "--log.level", "error", "--web.listen-address", address]) as process:
        try:
            yield f"http://{address}"
        finally:
            process.terminate()


def ask(address: str, path: str, query: str, **fields: str) -> list[dict[str, Any]]:
    """Return the series that Prometheus answers to a query of the dashboard."""
    seconds = f"{sum(phase[0] for phase in LOAD)}s"
    query = query.replace("$__rate_interval", RATE_WINDOW).replace("$__range", seconds).replace("$instance", ".*")
    answer = requests.get(f"{address}/api/v1/{path}", params={"query": query, **fields}, timeout=60)
    answer.raise_for_status()
    return answer.json()["data"]["result"]


def legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    """Return a series' name."""
    return re.sub(r"{{(\w+)}}", lambda found: labels[found[1]], target["legendFormat"])


def draw_dashboard(address: str, start: float, end: float, path: Path) -> None:
    """Draw every panel at its place."""
    panels = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    canvas = Figure(figsize=(10.8, height * 0.26), dpi=100, facecolor="white")
    for panel in panels:
        place = panel["gridPos"]
        left, bottom = (place["x"] + 1.4) / 24, 1 - (place["y"] + place["h"] - 1.2) / height
        axes = canvas.add_axes((left, bottom, (place["w"] - 2) / 24, (place["h"] - 2.6) / height))
        axes.set_title(panel["title"], fontsize=8, loc="left", weight="bold")
        if panel["type"] == "stat":
            draw_number(axes, panel, address, end)
        else:
            draw_lines(axes, panel, address, start, end)
    drawn = BytesIO()
    canvas.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)


def draw_number(axes: Axes, panel: dict[str, Any], address: str, end: float) -> None:
    """Write a panel's only value, or its series' name."""
    [target] = panel["targets"]
    [series] = ask(address, "query", target["expr"], time=str(end))
    text = f"{float(series['value'][1]):.0f}"
    if panel["options"]["textMode"] == "name":
        text = legend(target, series["metric"])
    for mapping in panel["fieldConfig"]["defaults"].get("mappings", []):
        text = mapping["options"][text]["text"]
    text += " s" if panel["fieldConfig"]["defaults"]["unit"] == "s" else ""
    axes.text(0.5, 0.5, text, ha="center", va="top", fontsize=16, color="#2f6fb7")
    axes.set_axis_off()


def draw_lines(axes: Axes, panel: dict[str, Any], address: str, start: float, end: float) -> None:
    """Draw a panel's series over the minutes."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    scale = 2**20 if unit == "bytes" else 1
    for target in panel["targets"]:
        for series in ask(address, "query_range", target["expr"], start=str(start), end=str(end), step=f"{SCRAPE_SECONDS}s"):
            minutes = [(moment - start) / 60 for moment, _ in series["values"]]
            values = [float(value) / scale for _, value in series["values"]]
            axes.plot(minutes, values, linewidth=1.2, label=legend(target, series["metric"]))
    axes.yaxis.set_major_formatter(lambda value, _: UNITS[unit].format(value))
    axes.set_xlim(0, (end - start) / 60)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6.5, loc="best", framealpha=0.6)
    axes.locator_params(axis="y", nbins=5)


def main(path: Path) -> None:
    """Run everything, and write the picture."""
    with tempfile.TemporaryDirectory() as name:
        command = our_command(*SETTINGS, "--output_dir", f"{name}/generations", model="Tiny", threads=1)
        with running(command) as server, prometheus(server.url, Path(name)) as address:
            start = time.time()
            apply_load(server.url)
            draw_dashboard(address, start, time.time(), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
