"""Matrix products of a few rows, whose time is that of reading the weights."""

from __future__ import annotations

import triton
import triton.language as tl


# A kernel for each number of rows would be compiled in its own way, and its sums could differ.
@triton.jit(do_not_specialize=["R"])
def product_kernel(x, w, y, R, N, K, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr):
    """y[R, N] = x[R, K] @ w[N, K].T, for N a multiple of COLUMNS and K of DEPTH; a program for COLUMNS columns and ROWS rows.

    A sum runs over K in one fixed order. x and w have the same type, y any.
    """
    n = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, DEPTH)
    exists = (m < R)[:, None]
    w_at = w + n.to(tl.int64)[:, None] * K + k[None, :]
    x_at = x + m[:, None] * K + k[None, :]
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in tl.range(0, K, DEPTH, num_stages=STAGES):
        weights = tl.load(w_at + start)
        rows = tl.load(x_at + start, mask=exists, other=0.0)
        sums = tl.dot(rows, tl.trans(weights), sums, input_precision="ieee")
    tl.store(y + m[:, None] * N + n[None, :], sums.to(y.dtype.element_ty), mask=exists)
