"""Make folders that are filled under a temporary name, and sweep away those of processes that were killed.

Who fills a folder holds a lock on it, which the system lifts when the process ends, however it ends. So what is locked is in use,
by this process or another one on the same folder, and what can be locked is nobody's. Where there are no such locks (Windows,
some network file systems), what is a day old is nobody's.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("dalle.storage")

_PREFIX = ".unfinished-"
_OURS = re.compile(r"\.unfinished-([0-9a-f]{16}|\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ_[a-z0-9-]+_[0-9a-f]{8})")  # the latter: once
_ABANDONED_SECONDS = 24 * 3600


@contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """Make a folder to fill and then rename; remove it where it was not renamed. Raises OSError."""
    path, lock = _make_locked(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        _unlock(lock)


def sweep_unfinished(parent: Path) -> int:
    """Remove what killed processes left in a folder; give how many held something. What isn't ours, or is in use, stays."""
    swept = 0
    with os.scandir(parent) as entries:
        found = [Path(entry) for entry in entries if _OURS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    for path in found:
        is_locked, lock = _lock(path)
        if is_locked or (lock is None and not _is_abandoned(path)):
            continue
        # By now it may be gone, renamed by who filled it; or empty, just made by one who will make another (`_make_locked`).
        held_something = _holds_something(path)
        shutil.rmtree(path, ignore_errors=True)
        _unlock(lock)
        swept += held_something and not path.exists()
    if swept:
        log.info("removed %d unfinished folders that an ended process left in %s", swept, parent)
    return swept


def temporary_path(parent: Path) -> Path:
    """Name what is not, or no longer, to be seen; a sweep takes it."""
    return parent / f"{_PREFIX}{secrets.token_hex(8)}"


def _make_locked(parent: Path) -> tuple[Path, int | None]:
    while True:
        path = temporary_path(parent)
        path.mkdir(parents=True)
        is_locked, lock = _lock(path)
        # Between making and locking, a sweep may have come by.
        if not is_locked and path.is_dir():
            return path, lock
        _unlock(lock)


def _lock(path: Path) -> tuple[bool, int | None]:
    """Try to lock a folder; give whether somebody else has it, and the lock, None where there are no locks."""
    if fcntl is None:
        return False, None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True, None  # somebody else had it
    except OSError:
        return False, None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return True, None
    except OSError:
        os.close(descriptor)
        return False, None
    return False, descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _holds_something(path: Path) -> bool:
    try:
        return any(path.iterdir())
    except OSError:
        return False


def _is_abandoned(path: Path) -> bool:
    try:
        return time.time() - path.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS
    except OSError:
        return False
