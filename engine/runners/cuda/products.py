"""Products of the decoder's rows with its weights, whose bits do not depend on the number of rows.

cuBLAS is the fastest. It takes another kernel, with sums in another order, for another number of rows, but for one number it
always takes the same. So it multiplies `MOST_ROWS` rows whatever the batch, or fewer where a trial on the device gives the same
bits, as in engine/runners/torch/batch_invariant.py. Where a row's bits depend on its place, Triton's products take over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from engine.runners.cuda.kernels.products import product_kernel

MOST_ROWS = 128  # of a product by cuBLAS; more rows are multiplied in parts
_COUNTS = (2, 4, 8, 16, 32, 64, MOST_ROWS)  # of rows; those of a batch are rounded up to one of them
HEIGHTS = (16, 32)  # rows of a tile; 16 is the least that tensor cores take
_WARPS = 4
_STAGES = 3  # tiles on their way from memory, per program

Product = Callable[[Tensor, Tensor], None]  # (x [R, K], y [R, N]): writes x @ weight.T to y
MakeProduct = Callable[[Tensor, torch.dtype], Product]  # of a weight [N, K], and the type of y


@dataclass(frozen=True)
class Tile:
    """The part of a weight that a program loads at once: columns of the result, and the depth of a sum's part."""

    columns: int
    depth: int
    stages: int

    @classmethod
    def of(cls, weight: Tensor, shared_memory: int) -> Tile:
        """Choose a tile for a weight [N, K]: many programs where N is small, long runs of memory, and no more than fits.

        Args:
            weight: The weight.
            shared_memory: Bytes that a program may keep on the chip.
        """
        n, k = weight.shape
        columns = _divisor(n, 16 if n <= 3072 else 32 if n <= 8192 else 64)
        depth = _divisor(k, 256 if weight.element_size() == 2 else 64)
        bytes_per_stage = (columns + HEIGHTS[-1]) * depth * weight.element_size()
        return cls(columns, depth, max(1, min(_STAGES, shared_memory // bytes_per_stage)))


def _divisor(count: int, limit: int) -> int:
    """Return the greatest power of two that divides a count, up to a limit, itself a power of two."""
    return min(limit, count & -count)


class InvariantProducts:
    """Products of weights by cuBLAS, or else in Triton; those of the same shape share their trial."""

    def __init__(self, device: torch.device) -> None:
        self._has_cublas = device.type == "cuda"
        self._shared_memory = 2**17  # Triton's interpreter has no limit
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            self._shared_memory = getattr(properties, "shared_memory_per_block_optin", properties.shared_memory_per_block)
        self._counts: dict[tuple[torch.Size, torch.dtype], Mapping[int, int] | None] = {}
        self._heights: dict[tuple[torch.Size, torch.dtype], int] = {}

    def __call__(self, weight: Tensor, dtype: torch.dtype) -> Product:
        """Return the product of a weight [N, K], whose result is of a type.

        Behind the rows of x and y there must be memory for a multiple of `MOST_ROWS` rows. What is there does not matter.
        """
        key = weight.shape, dtype
        if key not in self._counts:
            self._counts[key] = exact_counts(library_product(weight, dtype), weight, dtype) if self._has_cublas else None
        counts = self._counts[key]
        if counts is not None:
            return partial(_multiply_by_library, library_product(weight, dtype), counts)
        tile = Tile.of(weight, self._shared_memory)
        if key not in self._heights:
            self._heights[key] = _exact_height(weight, dtype, tile)
        most = self._heights[key]

        def multiply(x: Tensor, y: Tensor) -> None:
            _multiply(x, weight, y, tile, min(most, HEIGHTS[0] if len(x) <= HEIGHTS[0] else HEIGHTS[-1]))

        return multiply


def library_product(weight: Tensor, dtype: torch.dtype) -> Product:
    """Return torch's product of a weight [N, K], by cuBLAS on a GPU. A row's bits may depend on the number of rows."""

    def multiply(x: Tensor, y: Tensor) -> None:
        if x.dtype == dtype:
            torch.mm(x, weight.t(), out=y)
        elif x.device.type == "cuda":
            torch.mm(x, weight.t(), dtype, out=y)
        else:
            y.copy_(torch.mm(x, weight.t()))  # CPUs have no product of 16-bit numbers with a result of 32

    return multiply


def exact_counts(product: Product, weight: Tensor, dtype: torch.dtype) -> Mapping[int, int] | None:
    """Return how many rows to multiply for up to 2, 4, 8 ... rows, so that a row's bits are those among `MOST_ROWS` rows.

    Return None if there is no such number: if a row's bits depend on its place.
    """
    generator = torch.Generator(weight.device).manual_seed(0)
    rows = torch.randn((MOST_ROWS, weight.shape[1]), generator=generator, device=weight.device).to(weight.dtype)

    def multiplied(x: Tensor) -> Tensor:
        y = torch.empty((len(x), weight.shape[0]), device=weight.device, dtype=dtype)
        product(x, y)
        return y

    expected = multiplied(rows)
    if any(not torch.equal(multiplied(rows.roll(by, 0)).roll(-by, 0), expected) for by in (*range(1, 9), 18, 64, 100)):
        return None

    def is_exact(count: int) -> bool:
        parts = zip(rows.split(count), expected.split(count), strict=True)
        return all(torch.equal(multiplied(part), bits) for part, bits in parts)

    return {count: count if is_exact(count) else MOST_ROWS for count in _COUNTS}


def _multiply_by_library(product: Product, counts: Mapping[int, int], x: Tensor, y: Tensor) -> None:
    for start in range(0, len(x), MOST_ROWS):
        count = counts[next(count for count in _COUNTS if count >= min(len(x) - start, MOST_ROWS))]
        product(_rows(x, start, count), _rows(y, start, count))


def _rows(x: Tensor, start: int, count: int) -> Tensor:
    """Return rows of x, or of what follows it in memory."""
    return x.as_strided((count, x.shape[1]), x.stride(), x.storage_offset() + start * x.stride(0))


def _multiply(x: Tensor, weight: Tensor, y: Tensor, tile: Tile, height: int) -> None:
    n, k = weight.shape
    grid = (n // tile.columns, -(-len(x) // height))
    sizes = {"ROWS": height, "COLUMNS": tile.columns, "DEPTH": tile.depth, "STAGES": tile.stages}
    product_kernel[grid](x, weight, y, len(x), n, k, **sizes, num_warps=_WARPS)


def _exact_height(weight: Tensor, dtype: torch.dtype, tile: Tile) -> int:
    """Return the greatest height whose tiles give the bits of the lowest ones, with a row at another place, too."""
    generator = torch.Generator(weight.device).manual_seed(0)
    rows = torch.randn((HEIGHTS[-1], weight.shape[1]), generator=generator, device=weight.device).to(weight.dtype)

    def product(x: Tensor, height: int) -> Tensor:
        y = torch.empty((len(x), weight.shape[0]), device=weight.device, dtype=dtype)
        _multiply(x, weight, y, tile, height)
        return y

    expected = product(rows, HEIGHTS[0])
    for height in reversed(HEIGHTS[1:]):
        moved = product(rows.roll(2, 0).contiguous(), height).roll(-2, 0)
        if torch.equal(product(rows, height), expected) and torch.equal(moved, expected):
            return height
    return HEIGHTS[0]
