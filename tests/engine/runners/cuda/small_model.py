"""A model small enough for Triton's interpreter, whose sizes need padding everywhere."""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.weights.checkpoint import Checkpoint, load_checkpoint
from engine.weights.config import DetokenizerConfig
from engine.weights.models import MODELS
from tests.parity.reference import random_checkpoint

CPU = torch.device("cpu")


def small_checkpoint() -> Checkpoint:
    """Build a model of random weights with Tiny's vocabulary."""
    tiny = load_checkpoint("tiny", progress=False)
    assert MODELS["mini"].sizes is not None
    sizes = replace(
        MODELS["mini"].sizes,
        name="small",
        embed_count=32,
        attention_head_count=2,
        glu_embed_count=40,
        encoder_layer_count=1,
        decoder_layer_count=2,
        text_vocab_count=tiny.config.text_vocab_count,
        image_vocab_count=100,
        decoder_start_token_id=100,
        detokenizer=DetokenizerConfig(32, (5, 5)),
    )
    return random_checkpoint(sizes, tiny.tokenizer)
