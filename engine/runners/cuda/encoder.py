"""min-dalle's encoder on the device: a prompt to the keys and values that its images attend to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.runners.cuda.graphs import captured
from engine.runners.cuda.weights import DecoderWeights, fuse
from engine.upstream.modules import DalleBartEncoder

_PAD = 1


class EncodedPrompt(NamedTuple):
    """A prompt's keys and values of all layers, [layers, 2, heads, length, head width], and its length in tokens."""

    keys_values: Tensor
    length: int


class CudaEncoder:
    """An encoder of one prompt at a time. It takes the module's weights over: they become views of the fused ones."""

    def __init__(self, encoder: DalleBartEncoder, decoder: DecoderWeights) -> None:
        self._heads, self._layer_count = decoder.heads, len(decoder.layers)
        self._text_keys_values = decoder.text_keys_values
        device = decoder.device
        with torch.no_grad():
            self._layers = [
                (
                    layer,
                    fuse([layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj], device),
                    fuse([layer.glu.fc0, layer.glu.fc1], device),
                )
                for layer in encoder.layers
            ]
        self._encoder = encoder.to(device)
        self._tokens = torch.full((decoder.config.text_token_count,), _PAD, device=device)
        self._encode = captured(self._compute, device)

    def encode(self, tokens: Sequence[int]) -> EncodedPrompt:
        """Encode a prompt's tokens."""
        row = torch.full(self._tokens.shape, _PAD)
        row[: len(tokens)] = torch.tensor(tokens)
        self._tokens.copy_(row)
        self._encode()
        return EncodedPrompt(self._keys_values[..., : len(tokens), :].clone(), len(tokens))

    def _compute(self) -> None:
        exists = self._tokens.ne(_PAD)[None, None, None]  # [1, 1, 1, T]
        encoder = self._encoder
        state = _norm(encoder.layernorm_embedding, encoder.embed_tokens.weight[self._tokens] + encoder.embed_positions.weight)
        for layer, qkv, gates in self._layers:
            attention, glu = layer.self_attn, layer.glu
            projected = F.linear(_norm(layer.pre_self_attn_layer_norm, state), qkv)  # [T, 3 W]
            queries, keys, values = projected.unflatten(1, (3, self._heads, -1)).permute(1, 2, 0, 3)  # [heads, T, head width]
            mixed = F.scaled_dot_product_attention(queries[None], keys[None], values[None], attn_mask=exists)[0]
            mixed = F.linear(mixed.transpose(0, 1).flatten(1), attention.out_proj.weight)
            state = state + _norm(layer.self_attn_layer_norm, mixed)
            gate, value = F.linear(_norm(glu.ln0, state), gates).chunk(2, 1)
            state = state + F.linear(_norm(glu.ln1, F.gelu(gate) * value), glu.fc2.weight)
        projected = F.linear(_norm(encoder.final_ln, state), self._text_keys_values)  # [T, 2 layers x W]
        self._keys_values = projected.unflatten(1, (self._layer_count, 2, self._heads, -1)).permute(1, 2, 3, 0, 4)


def _norm(norm: nn.LayerNorm, state: Tensor) -> Tensor:
    return F.layer_norm(state, norm.normalized_shape, norm.weight, norm.bias)
