"""One decode step over a batch of images at different positions: min-dalle's weights, with a real cache.

min-dalle computes the cross-attention's keys and values of 64 text tokens again at each of the 256 steps. Here they are
computed once a prompt, and a step's cost is one pass over the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear
from torch.nn import functional as F

from engine.cache import KeyValueCache
from engine.request import IMAGE_TOKEN_COUNT
from engine.upstream import DalleBartDecoder, DecoderLayer

# The attention's sums run over this many positions at a time. What is masked adds exact zeros, so a row's result is the same to
# the bit under any length that is a multiple of it: it does not depend on how far the others in the batch are.
BLOCK = 16


def round_up(length: int) -> int:
    """Round a length up to whole blocks."""
    return -(-length // BLOCK) * BLOCK


@dataclass(frozen=True)
class Layer:
    """Hold one layer's weights as a step uses them: projections of the same input fused into one."""

    before_self: LayerNorm
    self_qkv: Tensor  # [3 W, W]
    self_out: Linear
    after_self: LayerNorm
    before_text: LayerNorm
    text_query: Linear
    text_out: Linear
    after_text: LayerNorm
    glu_in: LayerNorm
    glu_gates: Tensor  # [2 M, W]
    glu_middle: LayerNorm
    glu_out: Linear

    @classmethod
    def of(cls, layer: DecoderLayer) -> Layer:
        """Take the weights of min-dalle's layer."""
        attention, text, glu = layer.self_attn, layer.encoder_attn, layer.glu
        return cls(
            layer.pre_self_attn_layer_norm,
            torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]),
            attention.out_proj,
            layer.self_attn_layer_norm,
            layer.pre_encoder_attn_layer_norm,
            text.q_proj,
            text.out_proj,
            layer.encoder_attn_layer_norm,
            glu.ln0,
            torch.cat([glu.fc0.weight, glu.fc1.weight]),
            glu.ln1,
            glu.fc2,
        )


class Decoder:
    """Decode one token a row. A row is one of an image's two: unconditional and conditional."""

    def __init__(self, decoder: DalleBartDecoder, head_count: int, logit_count: int) -> None:
        self._heads = head_count
        self._embed_tokens = decoder.embed_tokens
        self._embed_positions = decoder.embed_positions
        self._embedding_norm = decoder.layernorm_embedding
        self._layers = [Layer.of(layer) for layer in decoder.layers]
        self._text_keys_values = [(layer.encoder_attn.k_proj, layer.encoder_attn.v_proj) for layer in decoder.layers]
        self._final_norm = decoder.final_ln
        self._head = decoder.lm_head.weight[:logit_count]
        self._positions = torch.arange(IMAGE_TOKEN_COUNT, device=self._head.device)

    def text_keys_values(self, encoded: Tensor) -> Tensor:
        """Project an encoded prompt once for all layers: [T, W] -> [layers, 2, heads, T, head width]."""
        projected = [torch.stack([k(encoded), v(encoded)]) for k, v in self._text_keys_values]
        return torch.stack(projected).unflatten(-1, (self._heads, -1)).transpose(2, 3)

    def step(self, tokens: Tensor, positions: Tensor, length: int, cache: KeyValueCache) -> Tensor:
        """Decode rows at their positions, writing their keys and values: int64 [R], int64 [R] -> logits [R, V].

        `length` is how much of the cache is attended to: past every position, and a multiple of `BLOCK`.
        """
        rows = torch.arange(len(tokens), device=tokens.device)
        seen = (self._positions[:length] <= positions[:, None])[:, None, None]  # [R, 1, 1, length]
        text_length = round_up(cache.text_length)
        text_mask = cache.text_mask(text_length)
        state = self._embedding_norm(self._embed_tokens(tokens) + self._embed_positions(positions))
        for index, layer in enumerate(self._layers):
            queries, keys, values = F.linear(layer.before_self(state), layer.self_qkv).chunk(3, -1)
            own_keys, own_values = cache.own(index)
            own_keys[rows, :, positions] = keys.unflatten(-1, (self._heads, -1))
            own_values[rows, :, positions] = values.unflatten(-1, (self._heads, -1))
            mixed = self._attend(queries, own_keys[:, :, :length], own_values[:, :, :length], seen)
            state = state + layer.after_self(layer.self_out(mixed))
            queries = layer.text_query(layer.before_text(state))
            mixed = self._attend(queries, *cache.text(index, text_length), text_mask)
            state = state + layer.after_text(layer.text_out(mixed))
            gate, value = F.linear(layer.glu_in(state), layer.glu_gates).chunk(2, -1)
            state = state + layer.glu_out(layer.glu_middle(F.gelu(gate) * value))
        return F.linear(self._final_norm(state), self._head)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attend with one query a row: [R, W], [R, heads, L, width] twice, bool [R, 1, 1, L] -> [R, W]."""
        split = queries.unflatten(-1, (self._heads, 1, -1))
        return F.scaled_dot_product_attention(split, keys, values, attn_mask=mask).flatten(1)
