"""Kernels that start while the last one still runs (programmatic dependent launch, compute capability 9.0)."""

from __future__ import annotations

import triton
import triton.language as tl

LINE = tl.constexpr(128)  # bytes that memory gives at once


@triton.jit
def after_the_last_kernel():
    """Wait until the last kernel has ended and what it wrote can be read; then let the next one start.

    In this order, the kernel before the last has ended when a kernel starts. So before this call, a kernel may read what the last
    one does not write, and it must write nothing.
    """
    tl.extra.cuda.gdc_wait()
    tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def prefetch(start, size, LINES: tl.constexpr):
    """Fetch `size` bytes from `start` on into the L2 cache, LINES lines at once."""
    at = tl.arange(0, LINES) * LINE
    for begin in range(0, size, LINES * LINE):
        line = start.to(tl.pointer_type(tl.uint8)) + tl.minimum(at + begin, size - 1)
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.b32 $0, 0;", "=r,l", [line], dtype=tl.int32, is_pure=False, pack=1
        )
