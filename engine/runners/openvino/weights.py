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
from engine.runners.rounding import INT4_GROUP, WeightKind, floats, rounded_to_int4, rounded_to_int8, shortest

_LAST_AXIS = np.array([-1], dtype=np.int64)
_KEEP_HALVES = "decompression_0"  # what OpenVINO marks a conversion by that it is not to do once for all, while it compiles


class Weights:
    """Make a graph's layers, and keep their constants in the order in which they are made.

    A graph always asks in the same order. So `stored`, the constants of an earlier start, can stand in for the modules' values,
    which are then not looked at: only their shapes are.
    """

    def __init__(self, kind: WeightKind, stored: Sequence[NDArray[Any]] | None = None) -> None:
        self._kind = kind
        self._stored = stored
        self.constants: list[NDArray[Any]] = []  # must live as long as the graph, which reads them where they are

    def linear(self, x: Node, weight: Tensor, *, bears_int4: bool = False) -> Node:
        """Multiply by a weight [out, in]: x [.., in] -> [.., out]; in int4 only where it `bears_int4`, else in int8."""
        kind = "int8" if self._kind == "int4" and not bears_int4 else self._kind
        missing = -weight.shape[1] % INT4_GROUP if kind == "int4" else 0
        if missing:
            zeros = op.constant(np.zeros(2, dtype=np.int64)), op.constant(np.array([0, missing], dtype=np.int64))
            x = op.pad(x, *zeros, "constant", op.constant(np.float32(0)))
        return op.matmul(x, self._weight(weight, kind), transpose_a=False, transpose_b=True)

    def norm(self, x: Node, layer: nn.LayerNorm) -> Node:
        """Normalise over the last axis, as `torch.nn.LayerNorm`."""
        return op.add(self._scaled(x, layer), self._floats(layer.bias))

    def normed_linear(self, x: Node, layer: nn.LayerNorm, weight: Tensor, *, bears_int4: bool = False) -> Node:
        """Normalise, then multiply by a weight [out, in]; what the norm's bias adds to the product is added once, behind it."""
        product = self.linear(self._scaled(x, layer), weight, bears_int4=bears_int4)
        return op.add(product, self._constant(self._array(lambda: (floats(weight) @ floats(layer.bias))[None])))

    def embedding(self, table: nn.Embedding, ids: Node) -> Node:
        """Look rows of a table up: ids int32 [N] -> [N, W]."""
        return op.gather(self._floats(table.weight), ids, op.constant(0))

    def gated(self, x: Node, glu: Any) -> Node:
        """Run min-dalle's gated linear unit: [N, W] -> [N, W]."""
        both = self.normed_linear(x, glu.ln0, stacked([glu.fc0.weight, glu.fc1.weight]), bears_int4=True)
        gate, value = op.split(both, op.constant(1), 2).outputs()
        return self.normed_linear(op.multiply(op.gelu(gate, "erf"), value), glu.ln1, glu.fc2.weight, bears_int4=True)

    def _scaled(self, x: Node, layer: nn.LayerNorm) -> Node:
        """Normalise but for the bias. The published models' norms have a scale only where their result is added to the state."""
        centred = op.mvn(x, op.constant(_LAST_AXIS), True, layer.eps, "inside_sqrt")
        scale = self._array(lambda: floats(layer.weight))
        return centred if (scale == 1).all() else op.multiply(centred, self._constant(scale))

    def _weight(self, weight: Tensor, kind: WeightKind) -> Node:
        """Keep a weight in few bytes; the product undoes it on the fly."""
        if kind == "float32":
            return self._float32(weight)
        if kind == "bfloat16":
            halves = self._array(lambda: floats(weight).bfloat16().view(torch.uint16))
            return op.convert(self._constant(halves, ov.Type.bf16), "f32")
        if kind == "int4":
            return self._int4(weight)
        rounded, scale = self._arrays(2, lambda: rounded_to_int8(floats(weight)))
        return op.multiply(op.convert(self._constant(rounded), "f32"), self._constant(scale))

    def _float32(self, weight: Tensor) -> Node:
        """Keep a weight as it is, in two bytes each where nothing is lost by it, as with the published ones."""
        array = self._array(lambda: shortest(floats(weight)))
        if array.dtype == np.float32:
            return self._constant(array)
        expanded = op.convert(self._constant(array), "f32")
        expanded.get_rt_info()[_KEEP_HALVES] = ""
        return expanded

    def _int4(self, weight: Tensor) -> Node:
        """Keep a weight in 4 bits, with a scale and a zero point for each group of an output channel."""
        rows, columns = weight.shape
        groups = -(-columns // INT4_GROUP)
        shape = ov.Shape([rows, groups, INT4_GROUP])
        packed, zeros, scales = self._arrays(3, lambda: _packed_int4(weight))
        whole = op.convert(self._constant(packed, ov.Type.u4, shape), "f32")
        centred = op.subtract(whole, op.convert(self._constant(zeros), "f32"))
        scaled = op.multiply(centred, self._constant(scales))
        return op.reshape(scaled, op.constant(np.array([rows, groups * INT4_GROUP], dtype=np.int64)), special_zero=False)

    def _floats(self, tensor: Tensor) -> Node:
        return self._constant(self._array(lambda: floats(tensor)))

    def _array(self, make: Callable[[], Tensor]) -> NDArray[Any]:
        return self._arrays(1, lambda: [make()])[0]

    def _arrays(self, count: int, make: Callable[[], Sequence[Tensor]]) -> list[NDArray[Any]]:
        """Take the next stored arrays, or make them."""
        next_one = len(self.constants)
        if self._stored is None:
            self.constants += [tensor.numpy() for tensor in make()]
        else:
            self.constants += self._stored[next_one : next_one + count]
        return self.constants[next_one:]

    @staticmethod
    def _constant(array: NDArray[Any], kind: ov.Type | None = None, shape: ov.Shape | None = None) -> Node:
        """Make a node of an array; `kind` and `shape` say what numpy has no name for."""
        if kind is None:
            return op.constant(array, shared_memory=True)
        return op.constant(ov.Tensor(array, shape or ov.Shape(array.shape), kind), shared_memory=True)


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Put weights with the same inputs on top of one another: one product for all."""
    if parts[0].is_meta:  # which `torch.cat` imports torch's compiler for: a second
        return parts[0].new_empty((sum(len(part) for part in parts), parts[0].shape[1]))
    return torch.cat(list(parts))


def _packed_int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round to int4 and put two weights into a byte, the first in its lower half: [out, groups, group / 2]."""
    whole, zeros, scales = rounded_to_int4(floats(weight))
    return whole[..., 0::2] | whole[..., 1::2] << 4, zeros, scales
