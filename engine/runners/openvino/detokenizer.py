"""A compiled detokenizer: token grids to pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

_SQUARE = (16, 16)  # tokens


class CompiledDetokenizer:
    """A detokenizer's graph, compiled for each picture size, as OpenVINO fuses more if it knows the size.

    It is compiled at once for 16 x 16 tokens, and for another size, which seamless pictures have, when the first of that size
    comes. Besides 16 x 16, only the last size is kept.
    """

    def __init__(self, graph: ov.Model, threads: int) -> None:
        """Compile a graph that `detokenizing_graph` has built."""
        # float32 for all that is not int8: bfloat16 gains nothing between int8 convolutions, and slows down other convolutions.
        self._settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        self._graph = graph
        self._compiled: dict[tuple[int, ...], ov.CompiledModel] = {}
        self._requests: dict[tuple[int, ...], ov.InferRequest] = {}
        self._request(_SQUARE)

    def reset(self) -> None:
        """Drop the requests: one that has raised may be in an undefined state."""
        self._requests = {}

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3].

        One at a time: a convolution's rounding depends on the batch, and a picture must not. Larger batches are not faster.
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
            self._requests = {}  # they keep their graphs alive
            for other in self._compiled.keys() - {_SQUARE}:
                del self._compiled[other]
            self._compiled[shape] = self._compile(shape)
        if shape not in self._requests:
            self._requests[shape] = self._compiled[shape].create_infer_request()
        return self._requests[shape]

    def _compile(self, shape: tuple[int, ...]) -> ov.CompiledModel:
        graph = self._graph.clone()
        graph.reshape([1, *shape])
        return ov.Core().compile_model(graph, "CPU", self._settings)
