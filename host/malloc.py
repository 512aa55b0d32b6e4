"""Settings of glibc's allocator; without effect on other systems."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# glibc's malloc.h
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
_LARGE, _LARGEST = 2**20, 2**25  # bytes; glibc raises the threshold up to the second by itself


def share_arenas() -> None:
    """Limit malloc to two arenas for all threads, unless MALLOC_ARENA_MAX is set.

    With glibc's default, eight for each core, memory grew by a quarter over 400 images of Tiny.
    """
    mallopt = _mallopt()
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_ARENA_MAX, 2)


@contextmanager
def release_freed_memory() -> Iterator[None]:
    """Return large blocks to the system as soon as they are freed.

    Once glibc has freed a large block, it keeps later ones of that size, up to 32 MB. Work that allocates many of them, such as
    converting a model, then takes twice the memory that it needs.
    """
    mallopt = _mallopt()
    if mallopt is None:
        yield
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _LARGEST)


def _mallopt() -> Callable[[int, int], int] | None:
    return getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
