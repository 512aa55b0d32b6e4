"""Launching kernels, or only compiling what would be launched."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

Launch = Callable[..., None]  # (kernel, grid, *arguments, **sizes and options)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Launch a kernel behind the last one."""
    kernel[grid](*arguments, **options)


class Compilation:
    """Kernels to compile: those that `launch` is called with, on tensors that need no memory."""

    def __init__(self) -> None:
        self._kernels: dict[tuple[Any, ...], Callable[[], Any]] = {}

    def launch(self, kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        """Note a kernel to compile; those for arguments of the same types, and for the same options, once."""
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
