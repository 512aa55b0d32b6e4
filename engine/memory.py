"""Detection of exhausted memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import CheckpointError

# Parts of the messages of plain RuntimeErrors from torch's and OpenVINO's allocators.
_MESSAGES = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "Failed to allocate")


def is_memory_exhausted(error: BaseException) -> bool:
    """Whether an error means that the device's or the machine's memory is exhausted."""
    torch = sys.modules.get("torch")  # not imported here: without it, no error is torch's
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


@contextmanager
def explaining_exhausted_memory() -> Iterator[None]:
    """Raise CheckpointError, with a remedy, if memory is exhausted while a model is loaded inside the block."""
    try:
        yield
    except Exception as error:
        if not is_memory_exhausted(error):
            raise
        raise CheckpointError(
            "not enough memory to load the model: choose a smaller model, or --precision int8 or int4 on a CPU"
        ) from error
