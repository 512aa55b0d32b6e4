"""min-dalle itself, on modules that are in memory: what benchmarks run beside ours, and parity tests hold it against."""

from __future__ import annotations

import torch
from min_dalle import MinDalle

from engine.checkpoint import Checkpoint
from engine.config import ModelConfig
from engine.detokenizer import build_detokenizer
from engine.upstream import DalleBartDecoder, DalleBartEncoder, TextTokenizer, VQGanDetokenizer


def random_checkpoint(config: ModelConfig, tokenizer: TextTokenizer, seed: int = 0) -> Checkpoint:
    """Build a model with random weights: min-dalle's modules at the sizes of `config`, the VQGAN's true ones."""
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
    parts = encoder.eval(), decoder.eval(), build_detokenizer(config).eval()
    for part in parts:
        part.requires_grad_(False)
    return Checkpoint(config, tokenizer, *parts)


def min_dalle_on(checkpoint: Checkpoint) -> MinDalle:
    """Make a MinDalle of our modules, without its constructor, which downloads."""
    model = MinDalle.__new__(MinDalle)
    model.device, model.dtype, model.is_reusable, model.is_verbose = "cpu", torch.float32, True, False
    model.layer_count, model.embed_count = checkpoint.config.decoder_layer_count, checkpoint.config.embed_count
    model.text_token_count = checkpoint.config.text_token_count
    model.tokenizer, model.encoder, model.decoder = checkpoint.tokenizer, checkpoint.encoder, checkpoint.decoder
    model.detokenizer = VQGanDetokenizer().eval().requires_grad_(False)  # with its own attention, which ours replaces
    model.detokenizer.load_state_dict(checkpoint.detokenizer.state_dict(), assign=True)
    return model
