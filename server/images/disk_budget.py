"""The disk budget of saved images, kept by removing the oldest requests."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import threading
from pathlib import Path

from host.unfinished import temporary_path
from utils import slugify

log = logging.getLogger("dalle.storage")

_OURS = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ_([^_]+)_[0-9a-f]{8}")
_BLOCK_BYTES = 4096
# Removing more than needed lets many requests be saved before the folder has to be scanned again.
_FILLED_AFTER_REMOVAL = 0.9


class DiskBudget:
    """A limit on what saved requests take in a folder. Only folders with our names are counted, and removed."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._used = sum(size for _, size in _requests_in(folder))  # bytes; never less than what this process knows of
        self._lock = threading.Lock()

    @property
    def used_ratio(self) -> float:
        """The share of the limit that saved requests take, as far as this process knows. Never waits for the disk."""
        return self._used / self._max_bytes

    def make_room(self, sizes: list[int]) -> int:
        """Make room for a request with files of these sizes in bytes. Return how many old requests were removed.

        Raises OSError if the request alone is too large, or old requests cannot be removed.
        """
        needed = _on_disk(sizes)
        if needed > self._max_bytes:
            raise OSError(errno.EFBIG, f"a request of {needed} bytes is larger than --max_disk_mb")
        with self._lock:
            removed = 0
            if self._used + needed > self._max_bytes:
                removed = self._remove_oldest(needed)
            self._used += needed
        return removed

    def _remove_oldest(self, needed: int) -> int:
        """Scan the folder, because other processes may have changed it, and remove the oldest requests until there is room."""
        requests = sorted(_requests_in(self._folder))  # their names begin with the time
        self._used = sum(size for _, size in requests)
        if self._used + needed <= self._max_bytes:
            return 0
        removed = 0
        for name, size in requests:
            if self._used + needed <= _FILLED_AFTER_REMOVAL * self._max_bytes:
                break
            if self._remove(name):
                self._used -= size
                removed += 1
        log.info("removed the %d oldest saved requests to keep below --max_disk_mb", removed)
        if self._used + needed > self._max_bytes:
            raise OSError(errno.ENOSPC, "old requests can't be removed to keep below --max_disk_mb")
        return removed

    def _remove(self, name: str) -> bool:
        """Remove a request. It is renamed first, so that a killed process leaves no half of it under its name."""
        hidden = temporary_path(self._folder)
        try:
            (self._folder / name).rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            log.warning("a saved request cannot be removed from %s: %s", self._folder, error.strerror)
            return False
        return True


def _is_ours(name: str) -> bool:
    """Return whether a folder's name is one that `output_folder.request_folder_name` makes."""
    match = _OURS.fullmatch(name)
    return match is not None and slugify(match[1]) == match[1]


def _requests_in(folder: Path) -> list[tuple[str, int]]:
    """Return the saved requests by name and size on disk. Links are ignored."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _is_ours(entry.name) and entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [(name, _size_of(folder / name)) for name in names]


def _size_of(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            sizes = [entry.stat(follow_symlinks=False).st_size for entry in entries]
    except OSError:  # removed meanwhile
        return 0
    return _on_disk(sizes)


def _on_disk(sizes: list[int]) -> int:
    """Return the bytes that a folder with files of these sizes takes, in whole blocks."""
    return _BLOCK_BYTES + sum(-(-size // _BLOCK_BYTES) * _BLOCK_BYTES for size in sizes)
