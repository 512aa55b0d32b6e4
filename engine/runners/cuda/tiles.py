"""The part of a product that a program computes at once: its size, for each shape of weights and number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = (16, 32, 64, 128)  # of a product, at most, for which a tile is chosen; the last one's serves more, too
QUARTERS = WARPS = 4  # parts of a sum, one for each warp
# With more parts or bytes on their way to a multiprocessor, none would arrive sooner.
_MOST_BUFFERS, _MOST_BYTES = 7, 144 * 2**10


@dataclass(frozen=True)
class Tile:
    """Rows and columns of the result, the depth of a part of each quarter of a sum, and stages: parts on their way, and one."""

    rows: int
    columns: int
    depth: int
    stages: int


@dataclass(frozen=True)
class Chip:
    """A GPU's multiprocessors, and the bytes that a program and a multiprocessor may keep on the chip."""

    multiprocessors: int
    program_memory: int
    multiprocessor_memory: int

    @classmethod
    def of(cls, device: torch.device) -> Chip:
        """Ask a device; for a CPU, which has no limit, return those of an H200."""
        if device.type != "cuda":
            return cls(132, 227 * 2**10, 228 * 2**10)
        properties = torch.cuda.get_device_properties(device)
        per_program = getattr(properties, "shared_memory_per_block_optin", properties.shared_memory_per_block)
        return cls(
            properties.multi_processor_count, per_program, getattr(properties, "shared_memory_per_multiprocessor", per_program)
        )


# Tiles that were measured to be faster than the rule's, by the rows, N and K of a product in 16 bits:
# `python -m benchmarks.gpu_kernels` prints what to write here. Empty as long as nobody has run it.
MEASURED: Mapping[tuple[int, int, int], Tile] = {}


def tile_for(weight: Tensor, rows: int, chip: Chip) -> Tile:
    """Choose the tile for a weight [N, K] and up to `rows` rows, one of `ROWS`.

    The weights are read from memory once if a tile has all rows, but there should be as many tiles as multiprocessors; and all
    tiles should be on the chip at once, with as much on its way as fits.
    """
    n, k = weight.shape
    if weight.element_size() != 2:
        columns, height, depth = 16, min(rows, 32), 16
    else:
        measured = MEASURED.get((rows, n, k))
        if measured is not None and tile_bytes(weight, measured) * (measured.stages - 1) <= chip.program_memory:
            return measured
        is_narrow = n <= 3072
        columns = (16 if rows <= 32 else 32) if is_narrow else (32 if rows <= 32 else 64)
        height = min(rows, 64) if not is_narrow or rows <= 32 else rows // 2
        depth = 64 if height <= 32 else 32
    tile = Tile(height, divisor(n, columns), divisor(k // QUARTERS, depth), 0)
    programs = n // tile.columns * -(-rows // height)
    on_one = -(-programs // chip.multiprocessors)
    # A kibibyte of each program is taken.
    room = min(chip.program_memory, chip.multiprocessor_memory // on_one - 2**10, _MOST_BYTES)
    buffers = max(2, min(_MOST_BUFFERS, room // tile_bytes(weight, tile)))
    return Tile(tile.rows, tile.columns, tile.depth, buffers + 1)


def unit_for(weight: Tensor) -> int:
    """Return how many numbers of a sum follow each other in one quarter: the same for all tiles of a weight [N, K]."""
    return divisor(weight.shape[1] // QUARTERS, 32 if weight.element_size() == 2 else 16)


def tile_bytes(weight: Tensor, tile: Tile) -> int:
    """Return the bytes of a part of the weights and rows."""
    return (tile.rows + tile.columns) * QUARTERS * tile.depth * weight.element_size()


def divisor(count: int, limit: int) -> int:
    """Return the greatest power of two that divides a count, up to a limit, itself a power of two."""
    return min(limit, count & -count)
