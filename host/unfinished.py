"""Folders that are filled under a temporary name, and the removal of those that killed processes left.

A process locks a folder while it fills it, and the system lifts the lock when the process ends, however it ends. So a locked
folder is in use, by this process or by another, and an unlocked one is abandoned. Where there are no such locks (Windows, some
network file systems), a folder counts as abandoned after a day.
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

_log = logging.getLogger(__name__)

_PREFIX = ".unfinished-"
# The second form is an older version's.
_NAME = re.compile(r"\.unfinished-([0-9a-f]{16}|\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ_[a-z0-9-]+_[0-9a-f]{8})")
_ABANDONED_SECONDS = 24 * 3600


@contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for the caller to fill and rename; remove it if it was not renamed. Raises OSError."""
    path, lock = _make_locked(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        _unlock(lock)


def sweep_unfinished(parent: Path) -> int:
    """Remove abandoned folders from `parent`; return how many of them held files. Raises OSError.

    Folders in use stay, and so does everything that `temporary_path` does not name.
    """
    swept = 0
    with os.scandir(parent) as entries:
        found = [Path(entry) for entry in entries if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    for path in found:
        is_in_use, lock = _lock(path)
        if is_in_use or (lock is None and not _is_old(path)):
            continue
        # By now it may be gone, as its process renamed it; or be empty, as its process has yet to lock it (`_make_locked`).
        held_files = _holds_files(path)
        shutil.rmtree(path, ignore_errors=True)
        _unlock(lock)
        swept += held_files and not path.exists()
    if swept:
        _log.info("removed %d unfinished folders that an ended process left in %s", swept, parent)
    return swept


def temporary_path(parent: Path) -> Path:
    """Return a new path for a folder that is not finished, or about to be removed: a sweep removes it."""
    return parent / f"{_PREFIX}{secrets.token_hex(8)}"


def _make_locked(parent: Path) -> tuple[Path, int | None]:
    while True:
        path = temporary_path(parent)
        path.mkdir(parents=True)
        is_in_use, lock = _lock(path)
        # A sweep may have locked or removed it before this process could lock it.
        if not is_in_use and path.is_dir():
            return path, lock
        _unlock(lock)


def _lock(path: Path) -> tuple[bool, int | None]:
    """Try to lock a folder; return whether it is in use, and the lock: None if there are no locks."""
    if fcntl is None:
        return False, None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True, None  # its process has renamed it, or a sweep has removed it
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


def _holds_files(path: Path) -> bool:
    try:
        return any(path.iterdir())
    except OSError:
        return False


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS
    except OSError:
        return False
