"""A model's layers without torch's modules: what graphs are built from once the constants are kept."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.request import IMAGE_TOKEN_COUNT
from engine.weights.config import ModelConfig

_EPSILON = 1e-5  # of torch.nn.LayerNorm


@dataclass(frozen=True)
class Outline:
    """The encoder and the decoder of a `Checkpoint`, with the same names, and weights that have a shape but no values."""

    config: ModelConfig
    encoder: Any
    decoder: Any


def outline(config: ModelConfig) -> Outline:
    """Outline a model."""
    return Outline(config, _encoder(config), _decoder(config))


def valueless(*shape: int) -> NDArray[Any]:
    """Return an array that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)


def _encoder(config: ModelConfig) -> SimpleNamespace:
    width = config.embed_count
    return SimpleNamespace(
        embed_tokens=_weight(config.text_vocab_count, width),
        embed_positions=_weight(config.text_token_count, width),
        layernorm_embedding=_norm(width),
        layers=[_layer(config) for _ in range(config.encoder_layer_count)],
        final_ln=_norm(width),
    )


def _decoder(config: ModelConfig) -> SimpleNamespace:
    width, vocabulary = config.embed_count, config.image_vocab_count + 1
    text = {
        "pre_encoder_attn_layer_norm": _norm(width),
        "encoder_attn": _attention(width),
        "encoder_attn_layer_norm": _norm(width),
    }
    return SimpleNamespace(
        embed_tokens=_weight(vocabulary, width),
        embed_positions=_weight(IMAGE_TOKEN_COUNT, width),
        layernorm_embedding=_norm(width),
        layers=[SimpleNamespace(**vars(_layer(config)), **text) for _ in range(config.decoder_layer_count)],
        final_ln=_norm(width),
        lm_head=_weight(vocabulary, width),
    )


def _layer(config: ModelConfig) -> SimpleNamespace:
    width, middle = config.embed_count, config.glu_embed_count
    return SimpleNamespace(
        pre_self_attn_layer_norm=_norm(width),
        self_attn=_attention(width),
        self_attn_layer_norm=_norm(width),
        glu=SimpleNamespace(
            ln0=_norm(width),
            ln1=_norm(middle),
            fc0=_weight(middle, width),
            fc1=_weight(middle, width),
            fc2=_weight(width, middle),
        ),
    )


def _attention(width: int) -> SimpleNamespace:
    return SimpleNamespace(**{name: _weight(width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")})


def _norm(width: int) -> SimpleNamespace:
    return SimpleNamespace(weight=valueless(width), bias=valueless(width), eps=_EPSILON)


def _weight(*shape: int) -> SimpleNamespace:
    return SimpleNamespace(weight=valueless(*shape))
