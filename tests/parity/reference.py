"""min-dalle's modules on our weights, step by step: the reference for the parity tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.request import IMAGE_TOKEN_COUNT
from engine.text import tokenize_prompt
from engine.upstream.tokenizer import TextTokenizer
from engine.weights.checkpoint import Checkpoint
from engine.weights.config import ModelConfig
from engine.weights.detokenizer import build_detokenizer
from engine.weights.skeleton import build_decoder, build_encoder

MIN_DALLE_START = 2**14 - 1  # min-dalle's first token, whatever the model's configuration says


def random_checkpoint(config: ModelConfig, tokenizer: TextTokenizer) -> Checkpoint:
    """Build a model with random weights: min-dalle's modules at the sizes of `config`."""
    torch.manual_seed(0)
    parts = build_encoder(config).eval(), build_decoder(config).eval(), build_detokenizer(config).eval()
    for part in parts:
        part.requires_grad_(False)
    return Checkpoint(config, tokenizer, *parts)


def text_rows(checkpoint: Checkpoint, prompt: str, negative: str = "") -> Tensor:
    """Return token rows as `MinDalle.generate_raw_image_stream` does: int64 [2, 64], of the negative prompt and of the prompt."""
    rows = np.ones((2, 64), dtype=np.int32)
    for row, text in zip(rows, (negative, prompt), strict=True):
        tokens = tokenize_prompt(checkpoint.tokenizer, text, checkpoint.config)
        row[: len(tokens)] = tokens
    return torch.tensor(rows, dtype=torch.long)


@torch.inference_mode()
def reference_logits(checkpoint: Checkpoint, prompt: str, forced: Sequence[int], negative: str = "") -> Tensor:
    """Return the logits of min-dalle's decoder on forced tokens, start token included: [steps, 2, V]."""
    config = checkpoint.config
    text = text_rows(checkpoint, prompt, negative)
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
