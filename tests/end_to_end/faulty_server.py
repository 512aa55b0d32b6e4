"""The real server with a runner that fails on a test's command: `FAULT_FILE=... python -m tests.end_to_end.faulty_server`.

While the file exists, it has the name of a runner's method and the fault of its calls:
    step raise       the next call raises RuntimeError and removes the file, so that the one after works
    step memory 4    calls for more than 4 images raise MemoryError
    step hold        calls wait until the file is removed, or has another fault
    step hold 40     the same, from the first image's 40th token on
    step die         the next call ends the engine's thread
The other methods: `encode`, `admit`, `rearrange`, `reset`, `detokenize`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import app
import cluster.replica
import engine.runners
from dalle_model import DalleModel
from engine.runners import SamplingRunner
from engine.runners.runner import Draw, Drawn
from engine.runners.sampling import draw_with_numpy
from tests.engine.loading import load_logits_runner

POLL_SECONDS = 0.01


class FaultyRunner:
    """A runner whose methods fail as the file commands."""

    def __init__(self, runner: Any, file: Path) -> None:
        self._runner, self._file = runner, file
        self.pictures_at_once: int = runner.pictures_at_once

    def draw(self, tokens: Sequence[int], positions: Sequence[int], draws: Sequence[Draw], steps: int) -> Drawn:
        return draw_with_numpy(self.step(tokens, positions), positions, draws)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._apply_fault(name, arguments)
            return getattr(self._runner, name)(*arguments)

        return call

    def _apply_fault(self, name: str, arguments: tuple[Any, ...]) -> None:
        method, fault, *most = self._fault()
        while (method, fault) == (name, "hold") and (not most or max(arguments[1]) >= int(most[0])):
            time.sleep(POLL_SECONDS)
            method, fault, *most = self._fault()
        if method != name:
            return
        if fault == "memory" and len(arguments[0]) > int(most[0]):
            raise MemoryError("a test's fault")
        if fault in {"raise", "die"}:
            self._file.unlink(missing_ok=True)
            raise RuntimeError("a test's fault") if fault == "raise" else SystemExit("a test's fault")

    def _fault(self) -> list[str]:
        try:
            return self._file.read_text().split()
        except FileNotFoundError:
            return ["", ""]


def make_faulty() -> None:
    """Make runners fail that are loaded in this process from now on."""
    file = Path(os.environ["FAULT_FILE"])

    def load_faulty(*arguments: Any, **named: Any) -> Any:
        files, runner = load_logits_runner(*arguments, **named)
        return files, SamplingRunner(FaultyRunner(runner, file), files.config)

    engine.runners.load_runner = load_faulty


class FaultyReplica(cluster.replica.Replica):
    """A replica with a faulty runner, for --replicas."""

    def _load(self) -> DalleModel:
        make_faulty()
        return super()._load()


def main() -> int:
    """Run app.py with a faulty runner."""
    make_faulty()
    cluster.replica.Replica = FaultyReplica  # type: ignore[misc]  # before Ray's part of the package is imported
    return app.main(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main())
