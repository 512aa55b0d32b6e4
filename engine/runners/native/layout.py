"""A decoder's weights as decode.c reads them: panels of output channels, in the precision asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.runners.rounding import INT4_GROUP, WeightKind, floats, rounded_to_int4, rounded_to_int8, shortest
from engine.upstream import DalleBartDecoder
from engine.weights.config import ModelConfig

PANEL = 16  # output channels in a register
PIECE = 64  # output channels that a thread takes at a time
WIDEST = 4096  # inputs
WIDEST_HEAD = 256
LONGEST = 256  # positions that are attended to, of an image or a prompt
GROUP = INT4_GROUP  # inputs that are rounded to 8 bits by one scale

FLOATS, HALVES, BFLOATS, INT8, INT4 = range(5)

Arrays = list[NDArray[Any]]


def why_unfit(config: ModelConfig) -> str | None:
    """Say why decode.c can't run a model of these sizes; None where it can."""
    head_width, widest = config.embed_count // config.attention_head_count, max(config.embed_count, config.glu_embed_count)
    if config.text_token_count > LONGEST:
        return f"it reads prompts of {config.text_token_count} tokens, more than {LONGEST}"
    if head_width % PANEL or head_width > WIDEST_HEAD:
        return f"the width of a head, {head_width}, is no multiple of {PANEL} up to {WIDEST_HEAD}"
    if config.glu_embed_count % 2:
        return f"the width of its gated unit, {config.glu_embed_count}, is odd"
    if widest > WIDEST:
        return f"its widest layer, {widest}, is above {WIDEST}"
    return None


def pack_decoder(decoder: DalleBartDecoder, logit_count: int, kind: WeightKind) -> Arrays:
    """Pack all that a step reads, in the order of decode.c's `Model` and `Layer`; a product is four arrays, a norm two."""
    small = "int8" if kind == "int4" else kind  # for what doesn't bear 4 bits
    arrays = [table(decoder.embed_tokens.weight), table(decoder.embed_positions.weight)]
    arrays += [*norm(decoder.layernorm_embedding), *norm(decoder.final_ln)]
    arrays += product(decoder.lm_head.weight[:logit_count], small)
    for layer in decoder.layers:
        own, text, glu = layer.self_attn, layer.encoder_attn, layer.glu
        for each in (
            layer.pre_self_attn_layer_norm,
            layer.self_attn_layer_norm,
            layer.pre_encoder_attn_layer_norm,
            layer.encoder_attn_layer_norm,
            glu.ln0,
            glu.ln1,
        ):
            arrays += norm(each)
        arrays += product(torch.cat([own.q_proj.weight, own.k_proj.weight, own.v_proj.weight]), small)
        arrays += product(own.out_proj.weight, small)
        arrays += product(text.q_proj.weight, small)
        arrays += product(text.out_proj.weight, small)
        arrays += product(torch.cat([glu.fc0.weight, glu.fc1.weight]), kind)
        arrays += product(glu.fc2.weight, kind)
    return arrays


def table(weight: Tensor) -> NDArray[Any]:
    """Keep rows to look up, in two bytes a number where that loses nothing."""
    return shortest(floats(weight)).numpy()


def norm(layer: nn.LayerNorm) -> Iterator[NDArray[Any]]:
    """Yield a norm's scale and bias."""
    yield from (floats(each).numpy() for each in (layer.weight, layer.bias))


def product(weight: Tensor, kind: WeightKind) -> Arrays:
    """Pack a weight [out, in]: what it is (kind, inputs, outputs, groups), the weights, their scales, their zero points."""
    weight = floats(weight)
    outputs, inputs = weight.shape
    scales, zeros = torch.empty(0), torch.empty(0, dtype=torch.uint8)
    number, groups = FLOATS, 0
    if kind in ("int8", "int4"):
        groups = -(-inputs // GROUP)
        weight = nn.functional.pad(weight, (0, groups * GROUP - inputs))
    weight = nn.functional.pad(weight, (0, 0, 0, -outputs % PIECE))
    if kind == "int8":
        number = INT8
        whole, scales = rounded_to_int8(weight)
        packed = (whole.short() + 128).byte().view(-1, PANEL, groups * GROUP // 4, 4).transpose(1, 2)
    elif kind == "int4":
        number = INT4
        whole, zeros, scales = rounded_to_int4(weight)
        # Of 8 inputs the first four are the lower halves of bytes.
        fours = whole.view(-1, PANEL, groups * GROUP // 8, 2, 4).permute(0, 2, 3, 1, 4)
        packed = fours[:, :, 0] | fours[:, :, 1] << 4
        scales, zeros = (each.view(-1, PANEL, groups).transpose(1, 2).contiguous() for each in (scales, zeros))
    else:
        if kind == "bfloat16":
            number, short = BFLOATS, weight.bfloat16().view(torch.uint16)
        else:
            short = shortest(weight)
            number = FLOATS if short.dtype == torch.float32 else HALVES
        packed = short.view(-1, PANEL, inputs).transpose(1, 2)
    about = np.array([number, inputs if not groups else groups * GROUP, outputs, groups], dtype=np.int32)
    return [about, packed.contiguous().numpy(), scales.float().numpy(), zeros.numpy()]
