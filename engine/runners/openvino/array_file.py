"""Arrays in a folder: one file of numbers, and an index."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.runners.aligned import CACHE_LINE, aligned_empty

_NUMBERS, _INDEX = "arrays.bin", "arrays.json"
_SMALL = 64 << 20  # bytes. A file up to this size is read, as huge pages make a small model faster; a larger one is mapped


def write_arrays(folder: Path, arrays: Mapping[str, Sequence[NDArray[Any]]]) -> None:
    """Write named lists of arrays. Raises OSError."""
    places: dict[str, list[tuple[str, tuple[int, ...], int]]] = {name: [] for name in arrays}
    with (folder / _NUMBERS).open("wb") as file:
        for name, listed in arrays.items():
            for array in listed:
                file.write(b"\0" * (-file.tell() % CACHE_LINE))
                places[name].append((array.dtype.str, array.shape, file.tell()))
                array.tofile(file)
        size = file.tell()
    (folder / _INDEX).write_text(json.dumps({"size": size, "places": places}))


def read_arrays(folder: Path) -> dict[str, list[NDArray[Any]]]:
    """Read what `write_arrays` wrote, as views of one block of memory. Raises OSError, or ValueError if they are damaged."""
    index = json.loads((folder / _INDEX).read_text())
    numbers = _read(folder / _NUMBERS)
    if numbers.nbytes != index["size"]:
        raise ValueError(f"{_NUMBERS} is truncated")

    def view(kind: str, shape: list[int], at: int) -> NDArray[Any]:
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(numbers, dtype=np.dtype(kind), count=count, offset=at).reshape(shape)

    return {name: [view(*place) for place in places] for name, places in index["places"].items()}


def _read(path: Path) -> NDArray[np.uint8]:
    """Read a small file into memory; map a large one, so that processes share it and the system may drop its pages."""
    size = path.stat().st_size
    if size > _SMALL:
        return np.memmap(path, dtype=np.uint8, mode="c")  # copy on write, as OpenVINO refuses arrays that can't be written to
    numbers: NDArray[np.uint8] = aligned_empty((size,))
    with path.open("rb") as file:
        read = file.readinto(numbers.data)
    return numbers[:read]
