"""Arrays kept in a folder: one file of numbers, mapped into memory when it is read, and a list of what is where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS, _LIST = "arrays.bin", "arrays.json"
_ALIGNMENT = 64  # bytes, a cache line


def write_arrays(folder: Path, arrays: Mapping[str, Sequence[NDArray[Any]]]) -> None:
    """Write lists of arrays, each under its name; raise OSError."""
    places: dict[str, list[tuple[str, tuple[int, ...], int]]] = {name: [] for name in arrays}
    with (folder / _NUMBERS).open("wb") as file:
        for name, own in arrays.items():
            for array in own:
                file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                places[name].append((array.dtype.str, array.shape, file.tell()))
                array.tofile(file)
        size = file.tell()
    (folder / _LIST).write_text(json.dumps({"size": size, "places": places}))


def read_arrays(folder: Path) -> dict[str, list[NDArray[Any]]]:
    """Read them back, as views of the mapped file; raise OSError or ValueError where the folder holds something else."""
    listed = json.loads((folder / _LIST).read_text())
    # To be written to, if only in memory: OpenVINO takes no other array.
    numbers = np.memmap(folder / _NUMBERS, dtype=np.uint8, mode="c")
    if numbers.nbytes != listed["size"]:
        raise ValueError(f"{_NUMBERS} is cut short")

    def view(kind: str, shape: list[int], at: int) -> NDArray[Any]:
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(numbers, dtype=np.dtype(kind), count=count, offset=at).reshape(shape)

    return {name: [view(*place) for place in own] for name, own in listed["places"].items()}
