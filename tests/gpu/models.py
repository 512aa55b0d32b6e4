"""Models of random weights, built on the GPU itself."""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.weights.checkpoint import Checkpoint, load_checkpoint
from engine.weights.config import ModelConfig
from engine.weights.models import MODELS
from tests.parity.reference import random_checkpoint


def sizes_of(model: str, layers: int | None = None) -> ModelConfig:
    """Return a model's true sizes, with fewer layers if asked."""
    sizes = MODELS[model].sizes
    assert sizes is not None
    return sizes if layers is None else replace(sizes, encoder_layer_count=layers, decoder_layer_count=layers)


def model_on(gpu: torch.device, sizes: ModelConfig, dtype: torch.dtype) -> Checkpoint:
    """Build a model with Tiny's vocabulary; only the detokenizer is in float32 whatever the type."""
    with gpu:
        checkpoint = random_checkpoint(sizes, load_checkpoint("tiny", progress=False).tokenizer)
        # Tensors of indices, which no module moves.
        checkpoint.encoder.pose_tokens = checkpoint.encoder.pose_tokens.to(gpu)
        checkpoint.decoder.token_indices = checkpoint.decoder.token_indices.to(gpu)
        for layer in checkpoint.decoder.layers:
            layer.token_indices = layer.token_indices.to(gpu)
    checkpoint.encoder.to(dtype)
    checkpoint.decoder.to(dtype)
    return checkpoint
