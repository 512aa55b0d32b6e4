"""Exhausted memory told from other failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.errors import CheckpointError

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
