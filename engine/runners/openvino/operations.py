"""Inputs, outputs and attention of an OpenVINO graph; `weights.py` has its layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as op
from openvino.op import _PagedAttentionExtension

Node = Any  # a node or an output of openvino, whose stubs have no overloads for both


def parameter(name: str, shape: list[int], kind: Any) -> Node:
    """Declare an input of a graph; -1 is a variable length."""
    node = op.parameter(ov.PartialShape(shape), kind, name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def result(name: str, node: Node) -> Node:
    """Declare an output of a graph."""
    node = op.result(node)
    node.output(0).get_tensor().set_names({name})
    return node


def paged_attention(queries: Node, keys: Node, values: Node, cache: tuple[Node, Node], rows: dict[str, Node], heads: int) -> Node:
    """Append keys and values to each row's pages, and attend to all tokens there: [N, W] three times -> [N, W].

    The operation is internal to OpenVINO and not documented; its inputs are taken from `paged_attention.cpp`, 2026.4.

    Args:
        cache: The pages of keys and of values.
        rows: The page tables of R rows, int32: `past` [R], the number of tokens in the pages; `begins` [R + 1], where a row's new
            tokens begin in N; `pages` [P]; `page_begins` [R + 1], where a row's pages begin in P; `longest` [], in tokens.
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
