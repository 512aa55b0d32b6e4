"""min-dalle's layers as nodes of an OpenVINO graph, with weights as constants in a given precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset15 as op

from engine.runners.openvino.operations import Node
from engine.runners.openvino.outline import valueless
from engine.runners.quantization import (
    INT4_GROUP,
    WeightKind,
    as_bfloat16_bits,
    as_exact_halves,
    as_float32,
    quantize_int4,
    quantize_int8,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

_LAST_AXIS = np.array([-1], dtype=np.int64)
_KEEP_HALVES = "decompression_0"  # OpenVINO's mark for a conversion that is not to be folded while it compiles


class Weights:
    """A builder of a graph's layers, which collects their constants in order.

    A graph's layers are always built in the same order. So `stored`, the constants of an earlier start, can replace the modules'
    values; then only shapes are read, and an `Outline` takes the modules' place.
    """

    def __init__(self, kind: WeightKind, stored: Sequence[NDArray[Any]] | None = None) -> None:
        self._kind = kind
        self._stored = stored
        self.constants: list[NDArray[Any]] = []  # must outlive the graph, which reads them in place

    def linear(self, x: Node, weight: Tensor, *, allow_int4: bool = False) -> Node:
        """Multiply by a weight [out, in]: x [.., in] -> [.., out]. The precision int4 takes int8 unless `allow_int4`."""
        kind = "int8" if self._kind == "int4" and not allow_int4 else self._kind
        missing = -weight.shape[1] % INT4_GROUP if kind == "int4" else 0
        if missing:
            zeros = op.constant(np.zeros(2, dtype=np.int64)), op.constant(np.array([0, missing], dtype=np.int64))
            x = op.pad(x, *zeros, "constant", op.constant(np.float32(0)))
        return op.matmul(x, self._weight(weight, kind), transpose_a=False, transpose_b=True)

    def norm(self, x: Node, layer: nn.LayerNorm) -> Node:
        """Normalise over the last axis as torch.nn.LayerNorm does."""
        return op.add(self._scaled(x, layer), self._floats(layer.bias))

    def normed_linear(self, x: Node, layer: nn.LayerNorm, weight: Tensor, *, allow_int4: bool = False) -> Node:
        """Normalise, then multiply by a weight [out, in]. The norm's bias is added behind the product, already multiplied."""
        product = self.linear(self._scaled(x, layer), weight, allow_int4=allow_int4)
        return op.add(product, self._constant(self._array(lambda: (as_float32(weight) @ as_float32(layer.bias))[None])))

    def embedding(self, table: nn.Embedding, ids: Node) -> Node:
        """Look up rows of a table: ids int32 [N] -> [N, W]."""
        return op.gather(self._floats(table.weight), ids, op.constant(0))

    def gated(self, x: Node, glu: Any) -> Node:
        """Run min-dalle's gated linear unit: [N, W] -> [N, W]."""
        both = self.normed_linear(x, glu.ln0, stacked([glu.fc0.weight, glu.fc1.weight]), allow_int4=True)
        gate, value = op.split(both, op.constant(1), 2).outputs()
        return self.normed_linear(op.multiply(op.gelu(gate, "erf"), value), glu.ln1, glu.fc2.weight, allow_int4=True)

    def _scaled(self, x: Node, layer: nn.LayerNorm) -> Node:
        """Normalise without the bias. The published models' norms have a scale only if their result is added to the state."""
        centred = op.mvn(x, op.constant(_LAST_AXIS), True, layer.eps, "inside_sqrt")
        scale = self._array(lambda: as_float32(layer.weight))
        return centred if (scale == 1).all() else op.multiply(centred, self._constant(scale))

    def _weight(self, weight: Tensor, kind: WeightKind) -> Node:
        """Create a weight in the type `kind`, and its conversion to float32, which the product fuses."""
        if kind == "float32":
            return self._float32(weight)
        if kind == "bfloat16":
            halves = self._array(lambda: as_bfloat16_bits(weight))
            return op.convert(self._constant(halves, ov.Type.bf16), "f32")
        if kind == "int4":
            return self._int4(weight)
        rounded, scale = self._arrays(2, lambda: quantize_int8(as_float32(weight)))
        return op.multiply(op.convert(self._constant(rounded), "f32"), self._constant(scale))

    def _float32(self, weight: Tensor) -> Node:
        """Create a float32 weight, stored in float16 if that is exact, as for the published weights."""
        array = self._array(lambda: as_exact_halves(as_float32(weight)))
        if array.dtype == np.float32:
            return self._constant(array)
        expanded = op.convert(self._constant(array), "f32")
        expanded.get_rt_info()[_KEEP_HALVES] = ""
        return expanded

    def _int4(self, weight: Tensor) -> Node:
        """Create an int4 weight, with a scale and a zero point for each group of an output channel."""
        rows, columns = weight.shape
        groups = -(-columns // INT4_GROUP)
        shape = ov.Shape([rows, groups, INT4_GROUP])
        packed, zeros, scales = self._arrays(3, lambda: _pack_int4(weight))
        whole = op.convert(self._constant(packed, ov.Type.u4, shape), "f32")
        centred = op.subtract(whole, op.convert(self._constant(zeros), "f32"))
        scaled = op.multiply(centred, self._constant(scales))
        return op.reshape(scaled, op.constant(np.array([rows, groups * INT4_GROUP], dtype=np.int64)), special_zero=False)

    def _floats(self, tensor: Tensor) -> Node:
        return self._constant(self._array(lambda: as_float32(tensor)))

    def _array(self, make: Callable[[], Tensor]) -> NDArray[Any]:
        return self._arrays(1, lambda: [make()])[0]

    def _arrays(self, count: int, make: Callable[[], Sequence[Tensor]]) -> list[NDArray[Any]]:
        """Return the next stored arrays, or make them."""
        next_one = len(self.constants)
        if self._stored is None:
            self.constants += [tensor.numpy() for tensor in make()]
        else:
            self.constants += self._stored[next_one : next_one + count]
        return self.constants[next_one:]

    @staticmethod
    def _constant(array: NDArray[Any], kind: ov.Type | None = None, shape: ov.Shape | None = None) -> Node:
        """Create a constant from an array; `kind` and `shape` are for types that numpy does not have."""
        if kind is None:
            return op.constant(array, shared_memory=True)
        return op.constant(ov.Tensor(array, shape or ov.Shape(array.shape), kind), shared_memory=True)


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate weights with the same inputs, for one product."""
    if isinstance(parts[0], np.ndarray):  # of an outline
        return valueless(sum(len(part) for part in parts), parts[0].shape[1])
    import torch  # late, as a start whose constants are kept needs none of it

    return torch.cat(list(parts))


def _pack_int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize to int4, two weights in a byte, the first in its lower half: [out, groups, group / 2], zero points, scales."""
    whole, zeros, scales = quantize_int4(as_float32(weight))
    return whole[..., 0::2] | whole[..., 1::2] << 4, zeros, scales
