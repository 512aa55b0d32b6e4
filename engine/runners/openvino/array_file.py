"""Arrays in a folder: one file of numbers, which is mapped into memory, and an index."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS, _INDEX = "arrays.bin", "arrays.json"
_ALIGNMENT = 64  # bytes, a cache line


def write_arrays(folder: Path, arrays: Mapping[str, Sequence[NDArray[Any]]]) -> None:
    """Write named lists of arrays. Raises OSError."""
    places: dict[str, list[tuple[str, tuple[int, ...], int]]] = {name: [] for name in arrays}
    with (folder / _NUMBERS).open("wb") as file:
        for name, listed in arrays.items():
            for array in listed:
                file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                places[name].append((array.dtype.str, array.shape, file.tell()))
                array.tofile(file)
        size = file.tell()
    (folder / _INDEX).write_text(json.dumps({"size": size, "places": places}))


def read_arrays(folder: Path) -> dict[str, list[NDArray[Any]]]:
    """Read what `write_arrays` wrote, as views of the mapped file. Raises OSError, or ValueError if they are damaged."""
    index = json.loads((folder / _INDEX).read_text())
    # Copy on write, as OpenVINO refuses arrays that can't be written to.
    numbers = np.memmap(folder / _NUMBERS, dtype=np.uint8, mode="c")
    if numbers.nbytes != index["size"]:
        raise ValueError(f"{_NUMBERS} is truncated")

    def view(kind: str, shape: list[int], at: int) -> NDArray[Any]:
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(numbers, dtype=np.dtype(kind), count=count, offset=at).reshape(shape)

    return {name: [view(*place) for place in places] for name, places in index["places"].items()}
