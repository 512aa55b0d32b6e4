"""Of several processes that need the same files, one makes them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from host.turn import turn

SPAWN = multiprocessing.get_context("spawn")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no locks on folders")


def hold_turn(folder: Path, has_begun: Event) -> None:
    with turn(folder):
        has_begun.set()
        time.sleep(60)


def test_a_second_process_waits_until_the_first_has_ended(tmp_path: Path) -> None:
    has_begun = SPAWN.Event()
    first = SPAWN.Process(target=hold_turn, args=(tmp_path, has_begun))
    first.start()
    try:
        assert has_begun.wait(60)
        begun = time.monotonic()
        with turn(tmp_path, wait_seconds=0.3):  # it gives up
            assert time.monotonic() - begun >= 0.3
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        with turn(tmp_path, wait_seconds=30), turn(tmp_path / "missing"):
            assert time.monotonic() - begun < 30
            first.join(60)
            assert first.exitcode == -signal.SIGKILL
    finally:
        first.kill()
        first.join()
