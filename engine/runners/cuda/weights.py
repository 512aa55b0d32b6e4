"""The decoder's weights as a step reads them: projections of the same input fused into one, sizes padded to whole tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.upstream.modules import DalleBartDecoder, DecoderLayer
from engine.weights.config import ModelConfig

# What the GLU's width is padded to a multiple of, and the number of logits, so that tiles divide them.
MIDDLE_UNIT = 256
LOGITS_UNIT = 64


def padded(count: int, unit: int) -> int:
    """Round a count up to whole units."""
    return -(-count // unit) * unit


@dataclass(frozen=True, eq=False)
class Norm:
    """A layer norm's weight and bias, both [W]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, module: nn.LayerNorm, device: torch.device, width: int | None = None) -> Norm:
        """Move a module's norm to a device; zeros fill it up to `width`."""
        module.to(device)
        extra = 0 if width is None else width - module.weight.shape[0]
        return cls(*(F.pad(value.detach(), (0, extra)) if extra else value.detach() for value in (module.weight, module.bias)))


def fuse(linears: Sequence[nn.Linear], device: torch.device, rows: int | None = None, columns: int | None = None) -> Tensor:
    """Join the weights [N, K] of linear layers on a device: [len(linears) x rows, columns].

    Zeros fill each up to `rows` and `columns`, by default its own. The layers' weights become views of the result, so that they
    stay valid and nothing is in memory twice.
    """
    first = linears[0].weight
    height, width = rows or first.shape[0], columns or first.shape[1]
    joined = torch.zeros((len(linears) * height, width), device=device, dtype=first.dtype)
    for part, linear in zip(joined.split(height), linears, strict=True):
        own = part[: linear.weight.shape[0], : linear.weight.shape[1]]
        own.copy_(linear.weight)
        linear.weight = nn.Parameter(own, requires_grad=False)
    return joined


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """A decoder layer. W is the model's width, M that of the GLU, padded."""

    before_self: Norm
    self_qkv: Tensor  # [3 W, W]
    self_out: Tensor  # [W, W]
    after_self: Norm
    before_text: Norm
    text_query: Tensor  # [W, W]
    text_out: Tensor  # [W, W]
    after_text: Norm
    glu_in: Norm
    glu_gates: Tensor  # [2 M, W]: gates, then values
    glu_middle: Norm  # [M]
    glu_out: Tensor  # [W, M]

    @classmethod
    def of(cls, layer: DecoderLayer, device: torch.device) -> LayerWeights:
        """Take a layer's weights over from min-dalle's."""
        attention, text, glu = layer.self_attn, layer.encoder_attn, layer.glu
        middle = padded(glu.fc0.weight.shape[0], MIDDLE_UNIT)
        return cls(
            Norm.of(layer.pre_self_attn_layer_norm, device),
            fuse([attention.q_proj, attention.k_proj, attention.v_proj], device),
            fuse([attention.out_proj], device),
            Norm.of(layer.self_attn_layer_norm, device),
            Norm.of(layer.pre_encoder_attn_layer_norm, device),
            fuse([text.q_proj], device),
            fuse([text.out_proj], device),
            Norm.of(layer.encoder_attn_layer_norm, device),
            Norm.of(glu.ln0, device),
            fuse([glu.fc0, glu.fc1], device, rows=middle),
            Norm.of(glu.ln1, device, middle),
            fuse([glu.fc2], device, columns=middle),
        )


class DecoderWeights:
    """min-dalle's decoder on a device. It takes the module's weights over: they become views of the fused ones."""

    def __init__(self, decoder: DalleBartDecoder, config: ModelConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.width, self.heads = config.embed_count, config.attention_head_count
        self.head_width = self.width // self.heads
        self.middle = padded(config.glu_embed_count, MIDDLE_UNIT)
        self.logit_stride = padded(config.logit_count, LOGITS_UNIT)
        with torch.no_grad():
            self.layers = [LayerWeights.of(layer, device) for layer in decoder.layers]
            # Keys and values of a prompt for all layers, in one product: [2 layers x W, W].
            text = [layer.encoder_attn for layer in decoder.layers]
            self.text_keys_values = fuse([each for own in text for each in (own.k_proj, own.v_proj)], device)
            decoder.to(device)
            self.embedding, self.places = decoder.embed_tokens.weight.detach(), decoder.embed_positions.weight.detach()
            self.embedding_norm, self.final_norm = Norm.of(decoder.layernorm_embedding, device), Norm.of(decoder.final_ln, device)
            head = decoder.lm_head.weight.detach()[: config.logit_count]
            self.head = F.pad(head, (0, 0, 0, self.logit_stride - len(head))) if self.logit_stride > len(head) else head
        self.dtype = self.head.dtype
