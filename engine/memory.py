"""Exhausted memory told from other failures, and freed memory given back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.errors import CheckpointError

_M_MMAP_THRESHOLD = -3  # glibc's malloc.h
_LARGE, _LARGEST = 2**20, 2**25  # bytes; glibc itself goes up to the second

# What torch's and OpenVINO's allocators say where they raise a bare RuntimeError.
_SENTENCES = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "Failed to allocate")


def is_memory_exhausted(error: BaseException) -> bool:
    """Tell whether an error says that memory, the device's or the machine's, is exhausted."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sentence in str(error) for sentence in _SENTENCES)


@contextmanager
def loading_told_of_memory() -> Iterator[None]:
    """Raise CheckpointError, with a remedy, where memory is exhausted while a model is loaded."""
    try:
        yield
    except Exception as error:
        if not is_memory_exhausted(error):
            raise
        raise CheckpointError(
            "there is not enough memory to load the model: take a smaller one, or int8 or int4 where the CPU draws"
        ) from error


@contextmanager
def freed_memory_given_back() -> Iterator[None]:
    """Have the system get back each large block that is freed meanwhile.

    glibc keeps freed blocks of up to 32 MB once it has seen one. What passes through many of them, as a conversion does, then
    takes twice the memory that it needs. Elsewhere this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
