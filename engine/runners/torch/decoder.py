"""A decode step over a batch of images at different positions: min-dalle's weights, with a key-value cache.

min-dalle computes the cross-attention's keys and values of 64 text tokens at each of the 256 steps. Here they are computed once
for each prompt, and a step costs one pass over the weights.

On a CPU, an image's logits are the same to the bit in any batch, because everything that could round differently is computed only
from the image's two rows and its position (docs/decisions/2-the-same-image-in-any-batch.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import LayerNorm
from torch.nn import functional as F

from engine.request import IMAGE_TOKEN_COUNT
from engine.runners.torch.batch_invariant import PAIR, BatchInvariantLinear, BlockSizes
from engine.runners.torch.cache import KeyValueCache
from engine.upstream.modules import DalleBartDecoder, DecoderLayer

ATTENTION_BLOCK = 16  # attention reads whole blocks of positions; those past an image's position are masked

Linear = Callable[[Tensor], Tensor]  # rows [R, K] -> [R, N]


@dataclass(frozen=True)
class AttentionSpan:
    """The number of positions and of text tokens to which some rows of a batch attend."""

    rows: slice
    length: int
    text_length: int


def attention_spans(positions: Sequence[int], text_lengths: Sequence[int], device: torch.device) -> list[AttentionSpan]:
    """Return the spans of a batch, in whole blocks.

    On a CPU, each image attends separately and over its own lengths, as the number of rows and of masked positions changes the
    rounding of its sums. On other devices, all images attend together, over the longest lengths, which takes the fewest kernels.
    """
    lengths = [(round_up(position + 1), round_up(text)) for position, text in zip(positions, text_lengths, strict=True)]
    if device.type != "cpu":
        return [AttentionSpan(slice(None), max(image for image, _ in lengths), max(text for _, text in lengths))]
    return [AttentionSpan(slice(PAIR * image, PAIR * (image + 1)), *both) for image, both in enumerate(lengths)]


def round_up(length: int) -> int:
    """Round a length up to whole blocks."""
    return -(-length // ATTENTION_BLOCK) * ATTENTION_BLOCK


@dataclass(frozen=True)
class Layer:
    """A layer's weights, with projections of the same input fused into one."""

    before_self: LayerNorm
    self_qkv: Linear  # W -> 3 W
    self_out: Linear
    after_self: LayerNorm
    before_text: LayerNorm
    text_query: Linear
    text_out: Linear
    after_text: LayerNorm
    glu_in: LayerNorm
    glu_gates: Linear  # W -> 2 M
    glu_middle: LayerNorm
    glu_out: Linear

    @classmethod
    def of(cls, layer: DecoderLayer, linear: Callable[[Tensor], Linear]) -> Layer:
        """Build a layer from min-dalle's; `linear` makes a product from each weight."""
        attention, text, glu = layer.self_attn, layer.encoder_attn, layer.glu
        return cls(
            layer.pre_self_attn_layer_norm,
            linear(torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])),
            linear(attention.out_proj.weight),
            layer.self_attn_layer_norm,
            layer.pre_encoder_attn_layer_norm,
            linear(text.q_proj.weight),
            linear(text.out_proj.weight),
            layer.encoder_attn_layer_norm,
            glu.ln0,
            linear(torch.cat([glu.fc0.weight, glu.fc1.weight])),
            glu.ln1,
            linear(glu.fc2.weight),
        )


class TorchDecoder:
    """min-dalle's decoder, one token at a time. An image has two rows, unconditional and conditional."""

    def __init__(self, decoder: DalleBartDecoder, head_count: int, logit_count: int) -> None:
        self._heads = head_count
        self._embed_tokens = decoder.embed_tokens
        self._embed_positions = decoder.embed_positions
        self._embedding_norm = decoder.layernorm_embedding
        self._sizes: dict[torch.Size, BlockSizes] = {}
        self._layers = [Layer.of(layer, self._linear) for layer in decoder.layers]
        self._text_keys_values = [(layer.encoder_attn.k_proj, layer.encoder_attn.v_proj) for layer in decoder.layers]
        self._final_norm = decoder.final_ln
        head = decoder.lm_head.weight[:logit_count]
        self._head = self._linear(head)
        self._positions = torch.arange(IMAGE_TOKEN_COUNT, device=head.device)

    def text_keys_values(self, encoded: Tensor) -> Tensor:
        """Project an encoded prompt to all layers' keys and values: [T, W] -> [layers, 2, heads, T, head width]."""
        projected = [torch.stack([k(encoded), v(encoded)]) for k, v in self._text_keys_values]
        return torch.stack(projected).unflatten(-1, (self._heads, -1)).transpose(2, 3)

    def step(self, tokens: Tensor, positions: Tensor, spans: Sequence[AttentionSpan], cache: KeyValueCache) -> Tensor:
        """Decode a token for each row and add its keys and values to the cache: int64 [R], int64 [R] -> logits [R, V]."""
        rows = torch.arange(len(tokens), device=tokens.device)
        seen = (self._positions <= positions[:, None])[:, None, None]  # [R, 1, 1, 256]
        state = self._embedding_norm(self._embed_tokens(tokens) + self._embed_positions(positions))
        for index, layer in enumerate(self._layers):
            queries, keys, values = layer.self_qkv(layer.before_self(state)).chunk(3, -1)
            image_keys, image_values = cache.image(index)
            image_keys[rows, :, positions] = keys.unflatten(-1, (self._heads, -1))
            image_values[rows, :, positions] = values.unflatten(-1, (self._heads, -1))
            mixed = self._attend(queries, image_keys, image_values, seen, [(span.rows, span.length) for span in spans])
            state = state + layer.after_self(layer.self_out(mixed))
            queries = layer.text_query(layer.before_text(state))
            text_keys, text_values = cache.text(index)
            mixed = self._attend(
                queries, text_keys, text_values, cache.text_mask, [(span.rows, span.text_length) for span in spans]
            )
            state = state + layer.after_text(layer.text_out(mixed))
            gate, value = layer.glu_gates(layer.glu_in(state)).chunk(2, -1)
            state = state + layer.glu_out(layer.glu_middle(self._gelu(gate) * value))
        return self._head(self._final_norm(state))

    def _linear(self, weight: Tensor) -> Linear:
        if weight.device.type != "cpu":
            return partial(F.linear, weight=weight)
        return BatchInvariantLinear(weight, self._sizes.setdefault(weight.shape, BlockSizes()))

    def _attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, lengths: Sequence[tuple[slice, int]]
    ) -> Tensor:
        """Attend with one query for each row: [R, W], [R, heads, L, width] twice, bool [R, 1, 1, L] -> [R, W].

        `lengths` has slices of rows that attend together, each with the number of positions to read.
        """
        split = queries.unflatten(-1, (self._heads, 1, -1))
        mixed = [
            F.scaled_dot_product_attention(
                split[rows], keys[rows, :, :length], values[rows, :, :length], attn_mask=mask[rows, ..., :length]
            )
            for rows, length in lengths
        ]
        return torch.cat(mixed).flatten(1)

    def _gelu(self, gate: Tensor) -> Tensor:
        """Apply GELU, on a CPU to one image at a time: numbers that do not fill a vector may go through another formula."""
        if gate.device.type != "cpu":
            return F.gelu(gate)
        return torch.cat([F.gelu(pair) for pair in gate.split(PAIR)])
