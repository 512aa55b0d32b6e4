"""A detokenizer's graph, compiled: token grids to pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

_USUAL = (16, 16)  # tokens


class Pixels:
    """Draw pictures from tokens.

    The graph is compiled for pictures of one size, as OpenVINO fuses more where it knows it: at once for those of 16 x 16 tokens,
    for others, which are seamless ones, when one is to be drawn. Beside the usual size the last other one is kept.
    """

    def __init__(self, graph: ov.Model, threads: int) -> None:
        """Compile the graph that `detokenizing_graph` makes."""
        # In float32 what is not rounded: bfloat16 between rounded convolutions gains nothing, whole convolutions lose.
        self._settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        self._graph = graph
        self._compiled: dict[tuple[int, ...], ov.CompiledModel] = {}
        self._requests: dict[tuple[int, ...], ov.InferRequest] = {}
        self._request(_USUAL)

    def reset(self) -> None:
        """Begin with requests of their own: one that has raised may be left half set."""
        self._requests = {}

    def draw(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3].

        One at a time: a convolution's rounding depends on the batch, and a picture must not. More at once is no faster.
        """
        request = self._request(grids.shape[1:])
        pixels = []
        for grid in grids:
            request.set_input_tensor(ov.Tensor(np.ascontiguousarray(grid[None], dtype=np.int64)))
            request.infer()
            pixels.append(request.get_output_tensor(0).data[0].copy())
        return np.stack(pixels)

    def _request(self, shape: tuple[int, ...]) -> ov.InferRequest:
        if shape not in self._compiled:
            self._requests = {}  # they hold what they run
            for other in self._compiled.keys() - {_USUAL}:
                del self._compiled[other]
            self._compiled[shape] = self._compile(shape)
        if shape not in self._requests:
            self._requests[shape] = self._compiled[shape].create_infer_request()
        return self._requests[shape]

    def _compile(self, shape: tuple[int, ...]) -> ov.CompiledModel:
        graph = self._graph.clone()
        graph.reshape([1, *shape])
        return ov.Core().compile_model(graph, "CPU", self._settings)
