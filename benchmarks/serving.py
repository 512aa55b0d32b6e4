"""Measure the real server with Tiny: start-up, one caller, many at once, and how soon it says hello meanwhile.

python -m benchmarks.serving --callers 20 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests

from benchmarks.figures import machine, ratio, spread

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = ("a red circle on a blue background", "two yellow hearts", "a small green star at the top", "a pink ring")


@contextmanager
def running_server(*flags: str) -> Iterator[tuple[str, float]]:
    """Start `python app.py` with Tiny on a free port; give its address and the seconds until it was ready."""
    started = time.perf_counter()
    command = [sys.executable, "app.py", "--model_version", "Tiny", "--port", "0", "--log_level", "warning", *flags]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"Serving at (\S+)", line):
                    threading.Thread(target=process.stdout.read, daemon=True).start()
                    yield found[1], time.perf_counter() - started
                    return
            raise RuntimeError("the server did not start")
        finally:
            process.terminate()


def draw(url: str, number: int) -> None:
    """Ask for one image."""
    body = {"text": PROMPTS[number % len(PROMPTS)], "seed": number}
    answer = requests.post(f"{url}/dalle", json=body, timeout=300)
    answer.raise_for_status()
    assert len(answer.json()["generatedImgs"]) == 1


def one_after_the_other(url: str, count: int) -> float:
    """Return the seconds for `count` images asked for in turn."""
    started = time.perf_counter()
    for number in range(count):
        draw(url, number)
    return time.perf_counter() - started


def all_at_once(url: str, count: int) -> tuple[float, list[float]]:
    """Return the seconds for `count` callers at once, and those that `GET /` took meanwhile."""
    hellos: list[float] = []
    done = threading.Event()

    def say_hello() -> None:
        while not done.wait(0.02):
            started = time.perf_counter()
            assert requests.get(url, timeout=60).text == "hello world"
            hellos.append(time.perf_counter() - started)

    with ThreadPoolExecutor(count + 1) as pool:
        greeter = pool.submit(say_hello)
        started = time.perf_counter()
        list(pool.map(lambda number: draw(url, number), range(count)))
        seconds = time.perf_counter() - started
        done.set()
        greeter.result()
    return seconds, hellos


def main(arguments: list[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max_batch_size", type=int, help="the server's default if left out")
    options = parser.parse_args(arguments)
    flags = ["--max_batch_size", str(options.max_batch_size)] if options.max_batch_size else []
    with running_server(*flags) as (url, ready):
        singles, turns, together, hellos = [], [], [], []
        for _ in range(options.rounds):
            singles.append(one_after_the_other(url, 1))
            turns.append(one_after_the_other(url, options.callers))
            seconds, meanwhile = all_at_once(url, options.callers)
            together.append(seconds)
            hellos += meanwhile
    slowest = statistics.quantiles(hellos, n=100)[94]
    print(f"Tiny over HTTP, {machine()}, {options.rounds} rounds\n")
    print("| | |\n| --- | --- |")
    print(f"| start to ready | {ready:.1f} s |")
    print(f"| one image | {spread(singles)} |")
    print(f"| {options.callers} images, one caller after the other | {spread(turns)} |")
    print(f"| {options.callers} images, {options.callers} callers at once | {spread(together)} |")
    print(f"| throughput, at once over one after the other | {ratio(turns, together)} |")
    print(f"| `GET /` meanwhile, median and 95 % | {statistics.median(hellos) * 1000:.0f} and {slowest * 1000:.0f} ms |")


if __name__ == "__main__":
    main()
