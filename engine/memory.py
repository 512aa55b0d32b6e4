"""Tell exhausted memory from other failures."""

from __future__ import annotations

import torch

# What torch's and OpenVINO's allocators say where they raise a bare RuntimeError.
_SENTENCES = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "Failed to allocate")


def is_memory_exhausted(error: BaseException) -> bool:
    """Tell whether an error says that memory, the device's or the machine's, is exhausted."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sentence in str(error) for sentence in _SENTENCES)
