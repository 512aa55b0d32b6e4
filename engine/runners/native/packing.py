"""A decoder's weights packed for decode.c: panels of output channels, in a given precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.runners.native.layout import BFLOATS, FLOATS, GROUP, HALVES, INT4, INT7, INT8, PANEL, PIECE
from engine.runners.quantization import (
    INT7_MOST,
    WeightKind,
    as_bfloat16_bits,
    as_exact_halves,
    as_float32,
    exact_int7,
    quantize_int4,
    quantize_int8,
)
from engine.upstream.modules import DalleBartDecoder
from engine.weights.config import ModelConfig

Arrays = list[NDArray[Any]]
_Kind = WeightKind | Literal["int7"]  # -64 to 64: AVX2 multiplies these in three quarters of int8's instructions


def pack_decoder(decoder: DalleBartDecoder, config: ModelConfig, kind: WeightKind) -> Arrays:
    """Pack a decoder's weights in the order of model.h's `Model` and `Layer`; a product takes four arrays, a norm two."""
    others: _Kind = "int7" if kind == "int4" else kind  # only the GLU is exact enough in int4
    arrays = [pack_table(decoder.embed_tokens.weight), pack_table(decoder.embed_positions.weight)]
    arrays += [*pack_norm(decoder.layernorm_embedding), *pack_norm(decoder.final_ln)]
    arrays += pack_product(decoder.lm_head.weight[: config.logit_count], others)
    for layer in decoder.layers:
        attention, text, glu = layer.self_attn, layer.encoder_attn, layer.glu
        for each in (
            layer.pre_self_attn_layer_norm,
            layer.self_attn_layer_norm,
            layer.pre_encoder_attn_layer_norm,
            layer.encoder_attn_layer_norm,
            glu.ln0,
            glu.ln1,
        ):
            arrays += pack_norm(each)
        arrays += pack_product(torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]), others)
        arrays += pack_product(attention.out_proj.weight, others)
        arrays += pack_product(text.q_proj.weight, others)
        arrays += pack_product(text.out_proj.weight, others)
        arrays += pack_product(torch.cat([glu.fc0.weight, glu.fc1.weight]), kind)
        arrays += pack_product(glu.fc2.weight, kind)
    return arrays


def pack_table(weight: Tensor) -> NDArray[Any]:
    """Pack an embedding table: in float16 if that is exact, else in float32."""
    return as_exact_halves(as_float32(weight)).numpy()


def pack_norm(layer: nn.LayerNorm) -> Iterator[NDArray[Any]]:
    """Yield a norm's scale and bias."""
    yield from (as_float32(each).numpy() for each in (layer.weight, layer.bias))


def pack_product(weight: Tensor, kind: _Kind) -> Arrays:
    """Pack a weight [out, in] as four arrays: int32 (kind, inputs, outputs, groups), the weights, scales, zero points."""
    weight = as_float32(weight)
    outputs, inputs = weight.shape
    scales, zeros = torch.empty(0), torch.empty(0, dtype=torch.uint8)
    number, groups = FLOATS, 0
    if kind in ("int8", "int7", "int4"):
        groups = -(-inputs // GROUP)
        weight = nn.functional.pad(weight, (0, groups * GROUP - inputs))
    weight = nn.functional.pad(weight, (0, 0, 0, -outputs % PIECE))
    if kind in ("int8", "int7"):
        exact = exact_int7(weight)
        number, offset = (INT8, 128) if kind == "int8" and exact is None else (INT7, INT7_MOST)
        whole, scales = exact or quantize_int8(weight, 127 if number == INT8 else INT7_MOST)
        packed = (whole.short() + offset).byte().view(-1, PANEL, groups * GROUP // 4, 4).transpose(1, 2)
    elif kind == "int4":
        number = INT4
        whole, zeros, scales = quantize_int4(weight)
        # Of 8 inputs, the first four are in the lower halves of the bytes.
        fours = whole.view(-1, PANEL, groups * GROUP // 8, 2, 4).permute(0, 2, 3, 1, 4)
        packed = fours[:, :, 0] | fours[:, :, 1] << 4
        scales, zeros = (each.view(-1, PANEL, groups).transpose(1, 2).contiguous() for each in (scales, zeros))
    else:
        if kind == "bfloat16":
            number, short = BFLOATS, as_bfloat16_bits(weight)
        else:
            short = as_exact_halves(weight)
            number = FLOATS if short.dtype == torch.float32 else HALVES
        packed = short.view(-1, PANEL, inputs).transpose(1, 2)
    header = np.array([number, inputs if not groups else groups * GROUP, outputs, groups], dtype=np.int32)
    return [header, packed.contiguous().numpy(), scales.float().numpy(), zeros.numpy()]
