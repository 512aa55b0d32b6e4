"""Work that several processes need, done by one of them while the others wait."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

_WAIT_SECONDS = 600.0  # at most: a stopped process keeps its turn
_POLL_SECONDS = 0.1


@contextmanager
def turn(folder: Path, wait_seconds: float = _WAIT_SECONDS) -> Iterator[None]:
    """Run the block while no other process runs one for the same folder; wait for it at most `wait_seconds`.

    The system ends the turn of a process that ends. Nobody waits where it has no such locks (Windows, some network file systems),
    or where the folder can't be opened.
    """
    descriptor = _open(folder)
    try:
        if descriptor is not None:
            _wait(descriptor, folder, wait_seconds)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(folder: Path) -> int | None:
    if fcntl is None:
        return None
    with suppress(OSError):
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    return None


def _wait(descriptor: int, folder: Path, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    has_logged = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError:
            return
        else:
            return
        if time.monotonic() > deadline:
            _log.warning("another process has written in %s for %.0f s: not waiting for it any longer", folder, wait_seconds)
            return
        if not has_logged:
            _log.info("waiting for another process that writes in %s", folder)
            has_logged = True
        time.sleep(_POLL_SECONDS)
