"""Matrix products of a few rows, whose time is that of reading the weights."""

from __future__ import annotations

import triton
import triton.language as tl

from engine.runners.cuda.kernels.overlap import after_the_last_kernel, prefetch


# A kernel for each number of rows would be compiled in its own way, and its sums could differ.
@triton.jit(do_not_specialize=["R"])
def product_kernel(
    x, w, y, R, N, K,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, QUARTERS: tl.constexpr, UNIT: tl.constexpr, DEPTH: tl.constexpr,
    STAGES: tl.constexpr, OVERLAPS: tl.constexpr = False,
):  # fmt: skip
    """y[R, N] = x[R, K] @ w[N, K].T, for N a multiple of COLUMNS and K of QUARTERS (4) times DEPTH. x and w have one type, y any.

    A program computes ROWS rows of COLUMNS columns. Its four warps share a sum: of every 4 UNIT numbers that follow each other
    the first sums the first UNIT, and so on; then the four sums are added. That is one order for any ROWS, COLUMNS, and DEPTH,
    a multiple of UNIT. The quarters are the batch of a product in three dimensions. So no warp reads what another one does, the
    chains of dependent sums are short, and Triton keeps to one kind of instruction (mma.sync) where it would take Hopper's for
    64 columns, which need not round as the one for 16 does.
    """
    first = tl.program_id(0) * COLUMNS
    n = first + tl.arange(0, COLUMNS)
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, DEPTH)
    k = (tl.arange(0, QUARTERS) * UNIT)[:, None] + (k // UNIT * (QUARTERS * UNIT) + k % UNIT)[None, :]
    exists = m < R
    w_at = w + n.to(tl.int64)[None, :, None] * K + k[:, None, :]
    x_at = x + m[None, :, None] * K + k[:, None, :]
    if OVERLAPS:
        prefetch(w + first.to(tl.int64) * K, COLUMNS * K * (w.dtype.element_ty.primitive_bitwidth // 8), LINES=256)
        after_the_last_kernel()
    sums = tl.zeros((QUARTERS, COLUMNS, ROWS), tl.float32)
    for start in tl.range(0, K, QUARTERS * DEPTH, num_stages=STAGES):
        weights = tl.load(w_at + start)
        rows = tl.load(x_at + start, mask=exists[None, :, None], other=0.0)
        sums = tl.dot(weights, tl.permute(rows, (0, 2, 1)), sums, input_precision="ieee")
    tl.store(y + m[None, :] * N + n[:, None], tl.sum(sums, 0).to(y.dtype.element_ty), mask=exists[None, :])
