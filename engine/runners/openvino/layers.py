"""min-dalle's layers as nodes of an OpenVINO graph, their weights as constants in the precision asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op
from openvino.op import _PagedAttentionExtension
from torch import Tensor, nn

Node = Any  # openvino's nodes and outputs; its stubs know no overloads for both

_LAST_AXIS = np.array([-1], dtype=np.int64)


def parameter(name: str, shape: list[int], kind: Any) -> Node:
    """Declare an input of a graph; -1 is a length that varies."""
    node = op.parameter(ov.PartialShape(shape), kind, name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def result(name: str, node: Node) -> Node:
    """Declare an output of a graph."""
    node = op.result(node)
    node.output(0).get_tensor().set_names({name})
    return node


def linear(x: Node, weight: Tensor, kept_in: str) -> Node:
    """Multiply by a weight [out, in]: x [.., in] -> [.., out]."""
    return op.matmul(x, _weight(weight, kept_in), transpose_a=False, transpose_b=True)


def _weight(weight: Tensor, kept_in: str) -> Node:
    """Keep a weight in float32, bfloat16, or int8 with a scale for each output channel; the product undoes it on the fly."""
    weight = weight.detach().float()
    if kept_in == "float32":
        return op.constant(weight.numpy())
    if kept_in == "bfloat16":
        # Rounded by torch: OpenVINO would cut the bits off.
        return op.convert(op.constant(weight.bfloat16().float().numpy(), dtype=ov.Type.bf16), "f32")
    scale = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
    rounded = (weight / scale).round().to(torch.int8)
    return op.multiply(op.convert(op.constant(rounded.numpy()), "f32"), op.constant(scale.numpy()))


def norm(x: Node, layer: nn.LayerNorm) -> Node:
    """Normalise over the last axis, as `torch.nn.LayerNorm`."""
    centred = op.mvn(x, op.constant(_LAST_AXIS), True, layer.eps, "inside_sqrt")
    scale, shift = (op.constant(part.detach().float().numpy()) for part in (layer.weight, layer.bias))
    return op.add(op.multiply(centred, scale), shift)


def embedding(table: nn.Embedding, ids: Node) -> Node:
    """Look rows of a table up: ids int32 [N] -> [N, W]."""
    return op.gather(op.constant(table.weight.detach().float().numpy()), ids, op.constant(0))


def gated(x: Node, glu: Any, kept_in: str) -> Node:
    """Run min-dalle's gated linear unit: [N, W] -> [N, W]."""
    both = linear(norm(x, glu.ln0), torch.cat([glu.fc0.weight, glu.fc1.weight]), kept_in)
    gate, value = op.split(both, op.constant(1), 2).outputs()
    return linear(norm(op.multiply(op.gelu(gate, "erf"), value), glu.ln1), glu.fc2.weight, kept_in)


def paged_attention(queries: Node, keys: Node, values: Node, cache: tuple[Node, Node], rows: dict[str, Node], heads: int) -> Node:
    """Append keys and values to each row's pages, and attend over all that are there: [N, W] three times -> [N, W].

    `rows` says where each row's pages are: `past` (tokens there already, int32 [R]), `begins` (where a row's new tokens begin
    in N, int32 [R + 1]), `pages` (int32 [P]), `page_begins` (int32 [R + 1]), `longest` (int32 []).
    The operation is OpenVINO's own, without documentation yet: its inputs are read from `paged_attention.cpp`, 2026.4.
    """
    queries, keys, values = (each if isinstance(each, ov.Output) else each.output(0) for each in (queries, keys, values))
    width = queries.get_partial_shape()[1].get_length() // heads

    def nothing(kind: type) -> Node:
        return op.constant(np.zeros(0, dtype=kind))

    def zero() -> Node:
        return op.constant(np.array(0, dtype=np.int32))

    inputs = [
        queries, keys, values, *cache,
        rows["past"], rows["begins"], rows["pages"], rows["page_begins"],
        op.constant(np.array(width**-0.5, dtype=np.float32)),  # scale
        zero(),  # sliding window
        nothing(np.float32),  # alibi slopes
        rows["longest"],
        nothing(np.int32),  # score aggregation window
        nothing(np.int32), nothing(np.int32), nothing(np.float32),  # rotated pages, their deltas, the table of angles
        nothing(np.float32), zero(), zero(),  # sparse prefill: threshold, block size, stride
        nothing(np.float32),  # sinks
        zero(), nothing(np.int32), nothing(np.int32), nothing(np.int32),  # eviction of pages
        nothing(np.int32),  # token types
        nothing(np.uint8), nothing(np.int32),  # bias between queries, where it begins
    ]  # fmt: skip
    node = _PagedAttentionExtension([each if isinstance(each, ov.Output) else each.output(0) for each in inputs])
    for name, value in (("k_head_size", width), ("v_head_size", width), ("num_k_heads", heads), ("num_v_heads", heads)):
        node.get_rt_info()[name] = value
    return node.output(0)
