"""A server process, ours or min-dalle's, with its time to start and its peak memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.plan import Plan

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 60


@dataclass(frozen=True)
class RunningServer:
    """A server's address and process id, and its seconds from start to ready."""

    url: str
    pid: int
    seconds_to_ready: float

    def peak_gigabytes(self) -> float:
        """Return the process's peak memory so far, mapped files included; Linux only."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024 / 1e9


def our_command(*flags: str, model: str, threads: int) -> list[str]:
    """Return the command that starts our server on a free port. Its callers are told apart by a proxy's header."""
    fixed = ["--port", "0", "--trust_proxy", "--log_level", "warning", "--model_version", model, "--threads", str(threads)]
    return [sys.executable, "app.py", *fixed, *flags]


def our_command_with_weights(plan: Plan, models_root: Path, cache_dir: Path) -> list[str]:
    """Return the command that starts our server with the weights in `models_root`."""
    folders = ["--models_root", str(models_root), "--cache_dir", str(cache_dir)]
    return our_command(*folders, model=plan.model, threads=plan.threads)


def min_dalle_command(plan: Plan, models_root: Path) -> list[str]:
    """Return the command that starts the Flask server around min-dalle."""
    return [sys.executable, "-m", "benchmarks.min_dalle_server", str(models_root), plan.model, str(plan.threads)]


@contextmanager
def running(command: list[str]) -> Iterator[RunningServer]:
    """Start a server, wait until it is ready, and stop it at the end of the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DALLE_")}
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = []
        try:
            for line in process.stdout:
                output.append(line)
                if found := re.search(r"Serving at (http\S+)", line):
                    ready = time.perf_counter() - started
                    threading.Thread(
                        target=process.stdout.read, daemon=True
                    ).start()  # without it the server would block on a full pipe
                    yield RunningServer(found[1], process.pid, ready)
                    return
            raise RuntimeError(f"{' '.join(command)} did not start:\n{''.join(output)}")
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
