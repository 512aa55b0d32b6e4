"""Memory for numbers that C reads: it begins at a cache line, where numpy's own begins 16 bytes behind one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

CACHE_LINE = 64  # bytes
HUGE = 4 << 20  # numpy asks Linux for huge pages, which save the core look-ups of addresses, for arrays of so many bytes


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike = np.uint8, *, at_least: int = 0) -> NDArray[Any]:
    """Return an array of any numbers whose first byte is the first of a cache line.

    Args:
        shape: Of the array.
        dtype: Of its numbers.
        at_least: The bytes to allocate, if they are more than the array has.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(max(size + CACHE_LINE, at_least), np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)
