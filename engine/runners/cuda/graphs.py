"""Work on fixed memory as a CUDA graph: the device runs it whole, and the host launches it in microseconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

_WARM_UPS = 2  # compile kernels, and set up libraries, which a capture must not


def captured(work: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """Return what does the same work again: a graph's replay on a GPU, the work itself on a CPU.

    The work runs a few times before, and must leave nothing that matters where a graph's memory is.
    """
    if device.type != "cuda":
        return work
    side = _side_stream(device)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


@lru_cache(maxsize=1)
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which all work warms up: cuBLAS keeps 32 MiB for each stream that it has seen."""
    return torch.cuda.Stream(device)
