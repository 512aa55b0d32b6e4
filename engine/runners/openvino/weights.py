"""min-dalle's layers as nodes of an OpenVINO graph, their weights as constants in the precision asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino import opset15 as op
from torch import Tensor, nn

from engine.runners.openvino.operations import Node

_LAST_AXIS = np.array([-1], dtype=np.int64)


class Weights:
    """Make a graph's layers, and keep their constants in the order in which they are made.

    A graph always asks in the same order. So `stored`, the constants of an earlier start, can stand in for the modules' values,
    which are then not looked at: only their shapes are.
    """

    def __init__(self, kept_in: str, stored: Sequence[NDArray[Any]] | None = None) -> None:
        self._kept_in = kept_in
        self._stored = stored
        self.constants: list[NDArray[Any]] = []  # must live as long as the graph, which reads them where they are

    def linear(self, x: Node, weight: Tensor) -> Node:
        """Multiply by a weight [out, in]: x [.., in] -> [.., out]."""
        return op.matmul(x, self._weight(weight), transpose_a=False, transpose_b=True)

    def norm(self, x: Node, layer: nn.LayerNorm) -> Node:
        """Normalise over the last axis, as `torch.nn.LayerNorm`."""
        centred = op.mvn(x, op.constant(_LAST_AXIS), True, layer.eps, "inside_sqrt")
        scaled = op.multiply(centred, self._floats(layer.weight))
        return op.add(scaled, self._floats(layer.bias))

    def embedding(self, table: nn.Embedding, ids: Node) -> Node:
        """Look rows of a table up: ids int32 [N] -> [N, W]."""
        return op.gather(self._floats(table.weight), ids, op.constant(0))

    def gated(self, x: Node, glu: Any) -> Node:
        """Run min-dalle's gated linear unit: [N, W] -> [N, W]."""
        both = self.linear(self.norm(x, glu.ln0), torch.cat([glu.fc0.weight, glu.fc1.weight]))
        gate, value = op.split(both, op.constant(1), 2).outputs()
        return self.linear(self.norm(op.multiply(op.gelu(gate, "erf"), value), glu.ln1), glu.fc2.weight)

    def _weight(self, weight: Tensor) -> Node:
        """Keep a weight in float32, bfloat16, or int8 with a scale for each output channel; the product undoes it on the fly."""
        if self._kept_in == "float32":
            return self._floats(weight)
        if self._kept_in == "bfloat16":
            return op.convert(self._constant(lambda: _floats(weight).bfloat16().view(torch.uint16).numpy(), ov.Type.bf16), "f32")
        rounded = self._constant(lambda: (_floats(weight) / _scale(weight)).round().to(torch.int8).numpy())
        return op.multiply(op.convert(rounded, "f32"), self._constant(lambda: _scale(weight).numpy()))

    def _floats(self, tensor: Tensor) -> Node:
        return self._constant(lambda: _floats(tensor).numpy())

    def _constant(self, make: Callable[[], NDArray[Any]], kind: ov.Type | None = None) -> Node:
        """Take the next stored constant, or make it; `kind` says what numpy has no name for."""
        array = make() if self._stored is None else self._stored[len(self.constants)]
        self.constants.append(array)
        if kind is None:
            return op.constant(array, shared_memory=True)
        return op.constant(ov.Tensor(array, ov.Shape(array.shape), kind), shared_memory=True)


def _floats(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous()


def _scale(weight: Tensor) -> Tensor:
    """Return what an output channel's int8 weights are multiplied by: [out, 1]."""
    return (_floats(weight).abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
