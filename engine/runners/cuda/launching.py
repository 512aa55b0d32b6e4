"""Ways to launch a kernel."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

Launch = Callable[..., None]  # (kernel, grid, *arguments, **sizes and options)

# Off until a GPU has shown that it is faster there, and draws the same: `python -m benchmarks.gpu_kernels` compares them.
OVERLAPS = False
LEAST_CAPABILITY = (9, 0)  # for overlapping


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Launch a kernel behind the last one."""
    kernel[grid](*arguments, OVERLAPS=False, **options)


def launch_overlapping(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Launch a kernel that starts while the last one still runs (kernels/overlap.py says how that is safe).

    That is for compute capability 9.0 and more. All kernels of a stream that follow each other must be launched so.
    """
    kernel[grid](*arguments, OVERLAPS=True, launch_pdl=True, **options)


def launch_on(device: torch.device) -> Launch:
    """Return how kernels are launched on a device."""
    can_overlap = device.type == "cuda" and torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY
    return launch_overlapping if OVERLAPS and can_overlap else launch


class Compilation:
    """Kernels to compile: those that `launch` is called with, on tensors that need no memory."""

    def __init__(self, launch: Launch = launch) -> None:
        """`launch` launches the compiled kernels later."""
        self._is_overlapping = launch is launch_overlapping
        self._kernels: dict[tuple[Any, ...], Callable[[], Any]] = {}

    def launch(self, kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        """Note a kernel to compile; those for arguments of the same types, and for the same options, once."""
        if self._is_overlapping:
            options["launch_pdl"] = True
        options["OVERLAPS"] = self._is_overlapping
        types = tuple(each.dtype if isinstance(each, torch.Tensor) else type(each) for each in arguments)
        key = kernel, types, tuple(sorted(options.items()))
        self._kernels.setdefault(key, lambda: kernel.warmup(*arguments, grid=grid, **options))

    def run(self, device: torch.device, threads: int) -> None:
        """Compile for a device, some kernels at once: most of a compilation is not Python's."""

        def compile_one(compile_kernel: Callable[[], Any]) -> None:
            with torch.cuda.device(device):
                compile_kernel()

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(compile_one, self._kernels.values()))
