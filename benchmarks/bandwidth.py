"""The machine's memory bandwidth, which limits the speed of a decode step."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.runners.native.decoder import NativeDecoder

BYTES = 3 * 2**30 // 2  # far more than any cache has
TRIES = 4


def memory_bandwidth(
    threads: int, decoder: NativeDecoder | None = None, size: int = BYTES, tries: int = TRIES
) -> dict[str, float]:
    """Return the bytes per second read from memory, by way of reading; no way is the fastest on all machines.

    Args:
        threads: The number of threads that read.
        decoder: A native decoder, which then reads too, with the instructions that it reads weights with.
        size: The buffer's size in bytes.
        tries: The number of runs, of which the fastest counts.
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
