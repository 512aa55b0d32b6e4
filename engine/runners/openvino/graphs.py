"""A model's graphs: one encodes a prompt, one runs a decode step over all rows.

Both share the prompts' pages: the first writes a prompt's keys and values there, once; the second reads them for each of the
prompt's images. `prompt_graph` encodes for the decoder in C, without pages.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openvino as ov
from openvino import opset15 as op

from engine.runners.openvino.operations import Node, paged_attention, parameter, result
from engine.runners.openvino.outline import Outline
from engine.runners.openvino.weights import Weights, stacked
from engine.weights.checkpoint import Checkpoint

INT = np.int32

Layers = Checkpoint | Outline


def _cache(prefix: str, layer: int) -> tuple[Node, Node]:
    """Declare the pages of a layer's keys and values: [pages, heads, tokens per page, head width], of dynamic type."""
    keys, values = (parameter(f"{prefix}_{kind}_cache.{layer}", [-1, -1, -1, -1], ov.Type.dynamic) for kind in ("key", "value"))
    return keys, values


def _rows(prefix: str, begins: Node, longest: Node) -> dict[str, Node]:
    """Declare the page tables of the rows, as `paged_attention` takes them."""
    own = {name: parameter(f"{prefix}_{name}", [-1], INT) for name in ("past", "pages", "page_begins")}
    return {**own, "begins": begins, "longest": longest}


def encoding_graph(model: Layers, weights: Weights) -> ov.Model:
    """Build the graph that encodes a prompt: `tokens` int32 [T] -> its pages, and `last` [layers, 2, W].

    `last` is the last token's keys and values. The attention operation appends at every call, so each decode step writes these
    again, where they already are.
    """
    config = model.config
    tokens, begins, longest = parameter("tokens", [-1], INT), parameter("begins", [-1], INT), parameter("longest", [], INT)
    rows = _rows("text", begins, longest)
    state, count = _encode(model, weights, tokens)
    caches: list[Node] = []
    written: list[Node] = []
    last: list[Node] = []
    final = op.subtract(count, op.constant(np.array(1, dtype=INT)))
    for index, (keys, values) in enumerate(_keys_values(model, weights, state)):
        cache = _cache("text", index)
        # Only for the keys and values that it writes: nothing reads its result.
        attended = paged_attention(keys, keys, values, cache, rows, config.attention_head_count)
        written.append(result(f"written.{index}", attended))
        last += [op.gather(part, final, op.constant(0)) for part in (keys, values)]
        caches += cache
    shape = op.constant(np.array([config.decoder_layer_count, 2, config.embed_count], dtype=np.int64))
    output = result("last", op.reshape(op.concat(last, 0), shape, special_zero=False))
    own = [rows[name] for name in ("past", "pages", "page_begins")]
    return ov.Model([output, *written], [tokens, begins, longest, *own, *caches], "encoding")


def prompt_graph(model: Layers, weights: Weights) -> ov.Model:
    """Build the graph that encodes a prompt: `tokens` int32 [T] -> each layer's keys and values [2 layers, T, W]."""
    tokens = parameter("tokens", [-1], INT)
    state, _ = _encode(model, weights, tokens)
    parts = [op.unsqueeze(part, op.constant(0)) for pair in _keys_values(model, weights, state) for part in pair]
    return ov.Model([result("keys_values", op.concat(parts, 0))], [tokens], "prompt")


def _encode(model: Layers, weights: Weights, tokens: Node) -> tuple[Node, Node]:
    """Run the encoder: tokens [T] -> its state [T, W], and T."""
    config, encoder = model.config, model.encoder
    count = op.shape_of(tokens, "i32")
    first, one = (op.constant(np.array(value, dtype=INT)) for value in (0, 1))
    positions = op.range(first, op.squeeze(count, first), one, "i32")
    state = weights.norm(
        op.add(weights.embedding(encoder.embed_tokens, tokens), weights.embedding(encoder.embed_positions, positions)),
        encoder.layernorm_embedding,
    )
    for layer in encoder.layers:
        attention = layer.self_attn
        fused = stacked([part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj)])
        projected = weights.normed_linear(state, layer.pre_self_attn_layer_norm, fused)
        mixed = weights.linear(_attend_all(projected, config.attention_head_count), attention.out_proj.weight)
        state = op.add(state, weights.norm(mixed, layer.self_attn_layer_norm))
        state = op.add(state, weights.gated(state, layer.glu))
    return weights.norm(state, encoder.final_ln), count


def _keys_values(model: Layers, weights: Weights, state: Node) -> Iterator[tuple[Node, Node]]:
    """Project an encoded prompt to each decoder layer's keys and values, [T, W] each."""
    for layer in model.decoder.layers:
        keys, values = (weights.linear(state, part.weight) for part in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj))
        yield keys, values


def _attend_all(projected: Node, heads: int) -> Node:
    """Attend from each text token to all: queries, keys and values in one tensor [T, 3 W] -> [T, W]."""

    def split(part: Node) -> Node:
        parts = op.reshape(part, op.constant(np.array([0, heads, -1], dtype=np.int64)), special_zero=True)
        return op.unsqueeze(op.transpose(parts, op.constant([1, 0, 2])), op.constant(0))  # [1, heads, T, width]

    parts = (split(part) for part in op.split(projected, op.constant(1), 3).outputs())
    mixed = op.transpose(op.squeeze(op.scaled_dot_product_attention(*parts), op.constant(0)), op.constant([1, 0, 2]))
    return op.reshape(mixed, op.constant(np.array([0, -1], dtype=np.int64)), special_zero=True)


def decoding_graph(model: Layers, weights: Weights) -> ov.Model:
    """Build the graph of a decode step, each row at its own position: `tokens`, `positions` int32 [R] -> `logits` [R, V]."""
    config, decoder = model.config, model.decoder
    heads, width = config.attention_head_count, config.embed_count
    tokens, positions, begins = (parameter(name, [-1], INT) for name in ("tokens", "positions", "begins"))
    longest = parameter("longest", [], INT)
    own_pages = {name: parameter(f"own_{name}", [-1], INT) for name in ("pages", "page_begins")}
    own = {**own_pages, "past": positions, "begins": begins, "longest": longest}
    text = _rows("text", begins, longest)
    inputs = [tokens, positions, begins, longest, *own_pages.values(), *(text[name] for name in ("past", "pages", "page_begins"))]

    state = op.add(weights.embedding(decoder.embed_tokens, tokens), weights.embedding(decoder.embed_positions, positions))
    state = weights.norm(state, decoder.layernorm_embedding)
    for index, layer in enumerate(decoder.layers):
        own_cache, text_cache = _cache("own", index), _cache("text", index)
        last = [parameter(f"last_{kind}.{index}", [-1, width], np.float32) for kind in ("key", "value")]
        inputs += [*own_cache, *text_cache, *last]

        attention = layer.self_attn
        fused = stacked([part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj)])
        projected = weights.normed_linear(state, layer.pre_self_attn_layer_norm, fused)
        queries, keys, values = op.split(projected, op.constant(1), 3).outputs()
        mixed = weights.linear(paged_attention(queries, keys, values, own_cache, own, heads), attention.out_proj.weight)
        state = op.add(state, weights.norm(mixed, layer.self_attn_layer_norm))

        attention = layer.encoder_attn
        queries = weights.normed_linear(state, layer.pre_encoder_attn_layer_norm, attention.q_proj.weight)
        mixed = weights.linear(paged_attention(queries, last[0], last[1], text_cache, text, heads), attention.out_proj.weight)
        state = op.add(state, weights.norm(mixed, layer.encoder_attn_layer_norm))

        state = op.add(state, weights.gated(state, layer.glu))
    head = decoder.lm_head.weight[: config.logit_count]
    logits = weights.normed_linear(state, decoder.final_ln, head)
    return ov.Model([result("logits", logits)], inputs, "decoding")
