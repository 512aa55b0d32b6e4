"""min-dalle itself, on our weights: what the parity tests hold our engine against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from min_dalle import MinDalle
from torch import Tensor

from engine.checkpoint import Checkpoint
from engine.config import ModelConfig
from engine.request import IMAGE_TOKEN_COUNT
from engine.text import tokenize_prompt
from engine.upstream import DalleBartDecoder, DalleBartEncoder, VQGanDetokenizer

MIN_DALLE_START = 2**14 - 1  # what min-dalle feeds first, whatever the model's configuration says


def random_checkpoint(config: ModelConfig, like: Checkpoint, seed: int = 0) -> Checkpoint:
    """Build a model with random weights: min-dalle's modules at the sizes of `config`, the tokenizer of `like`."""
    torch.manual_seed(seed)
    sizes = {
        "attention_head_count": config.attention_head_count,
        "embed_count": config.embed_count,
        "glu_embed_count": config.glu_embed_count,
        "device": "cpu",
    }
    encoder = DalleBartEncoder(
        layer_count=config.encoder_layer_count,
        text_token_count=config.text_token_count,
        text_vocab_count=config.text_vocab_count,
        **sizes,
    )
    decoder = DalleBartDecoder(layer_count=config.decoder_layer_count, image_vocab_count=config.image_vocab_count, **sizes)
    encoder.pose_tokens = encoder.pose_tokens[:1]
    parts = encoder.eval(), decoder.eval(), VQGanDetokenizer().eval()
    for part in parts:
        part.requires_grad_(False)
    return Checkpoint(config, like.tokenizer, *parts)


def text_rows(checkpoint: Checkpoint, prompt: str) -> Tensor:
    """Tokenize as `MinDalle.generate_raw_image_stream` does: int64 [2, 64], unconditional and conditional."""
    tokens = tokenize_prompt(checkpoint.tokenizer, prompt, checkpoint.config)
    rows = np.ones((2, 64), dtype=np.int32)
    rows[0, :2] = [tokens[0], tokens[-1]]
    rows[1, : len(tokens)] = tokens
    return torch.tensor(rows, dtype=torch.long)


@torch.inference_mode()
def reference_logits(checkpoint: Checkpoint, prompt: str, forced: Sequence[int]) -> Tensor:
    """Run min-dalle's decoder step by step on forced tokens, the first of which starts the picture: [steps, 2, V]."""
    config = checkpoint.config
    text = text_rows(checkpoint, prompt)
    encoder_state = checkpoint.encoder.forward(text)
    attention_state = torch.zeros(config.decoder_layer_count, 4, IMAGE_TOKEN_COUNT, config.embed_count)
    steps = []
    for i, token in enumerate(forced):
        logits, attention_state = checkpoint.decoder.forward(
            attention_mask=text.not_equal(1)[:, None, None, :],
            encoder_state=encoder_state,
            attention_state=attention_state,
            prev_tokens=torch.tensor([[token]]),
            token_index=torch.tensor([i]),
        )
        steps.append(logits[:, -1, : config.logit_count])
    return torch.stack(steps)


def min_dalle_on(checkpoint: Checkpoint) -> MinDalle:
    """Make a MinDalle of our modules, without its constructor, which downloads."""
    model = MinDalle.__new__(MinDalle)
    model.device, model.dtype, model.is_reusable, model.is_verbose = "cpu", torch.float32, True, False
    model.layer_count, model.embed_count = checkpoint.config.decoder_layer_count, checkpoint.config.embed_count
    model.text_token_count = checkpoint.config.text_token_count
    model.tokenizer, model.encoder, model.decoder = checkpoint.tokenizer, checkpoint.encoder, checkpoint.decoder
    model.detokenizer = checkpoint.detokenizer
    return model
