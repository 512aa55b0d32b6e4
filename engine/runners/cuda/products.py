"""Products of the decoder's rows with its weights, whose bits do not depend on the number of rows.

Sums run in one order whatever the tile, so a row's result should not depend on it. The tiles for the fewest rows are the
reference. Others are used where a trial on the device gives the same bits, as in engine/runners/torch/batch_invariant.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.runners.cuda.kernels.products import product_kernel
from engine.runners.cuda.launching import Launch, launch
from engine.runners.cuda.tiles import QUARTERS, ROWS, WARPS, Chip, Tile, tile_for, unit_for

Product = Callable[[Tensor, Tensor], None]  # (x [R, K], y [R, N]): writes x @ weight.T to y
MakeProduct = Callable[[Tensor, torch.dtype], Product]  # of a weight [N, K], and the type of y


class InvariantProducts:
    """Products of weights in Triton; those of the same shape share their trial."""

    def __init__(self, device: torch.device, launch: Launch = launch) -> None:
        self._chip, self._launch = Chip.of(device), launch
        self._tiles: dict[tuple[torch.Size, torch.dtype], list[Tile]] = {}

    def __call__(self, weight: Tensor, dtype: torch.dtype) -> Product:
        """Return the product of a weight [N, K], whose result is of a type."""
        key = weight.shape, dtype
        if key not in self._tiles:
            tiles = [tile_for(weight, rows, self._chip) for rows in ROWS]
            self._tiles[key] = tiles if weight.is_meta else exact_tiles(weight, dtype, tiles)
        tiles, launch = self._tiles[key], self._launch

        def multiply(x: Tensor, y: Tensor) -> None:
            tile = next((tile for tile, rows in zip(tiles, ROWS, strict=True) if len(x) <= rows), tiles[-1])
            run_product(x, weight, y, tile, launch)

        return multiply


def run_product(x: Tensor, weight: Tensor, y: Tensor, tile: Tile, launch: Launch = launch) -> None:
    """Write x [R, K] @ weight [N, K].T to y [R, N]."""
    n, k = weight.shape
    grid = (n // tile.columns, -(-len(x) // tile.rows))
    launch(
        product_kernel, grid, x, weight, y, len(x), n, k, ROWS=tile.rows, COLUMNS=tile.columns, QUARTERS=QUARTERS,
        UNIT=unit_for(weight), DEPTH=tile.depth, STAGES=tile.stages, num_warps=WARPS,
    )  # fmt: skip


def exact_tiles(weight: Tensor, dtype: torch.dtype, tiles: list[Tile]) -> list[Tile]:
    """Replace those tiles of `ROWS` whose bits are not the first one's by the tile before; rows are at other places, too."""
    generator = torch.Generator(weight.device).manual_seed(0)
    rows = torch.randn((ROWS[-1], weight.shape[1]), generator=generator, device=weight.device).to(weight.dtype)

    def product(x: Tensor, tile: Tile) -> Tensor:
        y = torch.empty((len(x), weight.shape[0]), device=weight.device, dtype=dtype)
        run_product(x, weight, y, tile)
        return y

    exact = tiles[:1]
    for tile, count in zip(tiles[1:], ROWS[1:], strict=True):
        own = rows[:count]
        if tile != exact[-1]:
            expected = product(own, tiles[0])
            moved = product(own.roll(2, 0).contiguous(), tile).roll(-2, 0)
            if not (torch.equal(product(own, tile), expected) and torch.equal(moved, expected)):
                tile = exact[-1]
        exact.append(tile)
    return exact


def cublas_product(weight: Tensor, dtype: torch.dtype) -> Product:
    """Return the product of a weight [N, K] by cuBLAS, whose bits depend on the number of rows: for comparisons only."""

    def multiply(x: Tensor, y: Tensor) -> None:
        if x.dtype == dtype:
            torch.mm(x, weight.t(), out=y)
        else:
            y.copy_(torch.mm(x, weight.t()))

    return multiply
