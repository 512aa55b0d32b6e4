"""How many bytes a second this machine reads from memory: what bounds a decode step."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.runners.native.decoder import NativeDecoder

BYTES = 3 * 2**30 // 2  # far more than any cache holds
TRIES = 4


def memory_bandwidth(
    threads: int, decoder: NativeDecoder | None = None, size: int = BYTES, tries: int = TRIES
) -> dict[str, float]:
    """Read a buffer of `size` bytes with all threads, in several ways, as none is the fastest everywhere: bytes a second.

    A `decoder` reads it as well, with the registers and prefetches that it reads weights by.
    """
    buffer = np.ones(size // 8, dtype=np.int64)
    floats = buffer.view(np.float32)
    matrix = torch.from_numpy(floats[: len(floats) // 4096 * 4096].reshape(-1, 4096))
    vector = torch.zeros(4096)
    with ThreadPoolExecutor(threads) as pool:

        def in_threads(read: Callable[[NDArray[Any]], object], numbers: NDArray[Any]) -> None:
            list(pool.map(read, np.array_split(numbers, threads)))

        ways: dict[str, Callable[[], object]] = {
            "sums of int64": lambda: in_threads(np.sum, buffer),
            "dot products of float32": lambda: in_threads(lambda part: np.vdot(part, part), floats),
            "matrix by vector in float32": lambda: torch.mv(matrix, vector),
        }
        if decoder is not None:
            ways["registers of 64 bytes"] = lambda: decoder.seconds_to_read(buffer)
        return {name: size / _least_seconds(way, tries) for name, way in ways.items()}


def _least_seconds(way: Callable[[], object], tries: int) -> float:
    times = []
    for _ in range(tries):
        started = time.perf_counter()
        way()
        times.append(time.perf_counter() - started)
    return min(times)
