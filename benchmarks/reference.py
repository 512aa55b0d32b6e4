"""min-dalle itself, on modules in memory or files on disk: what benchmarks run beside ours, and parity tests hold it against."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from min_dalle import MinDalle

from engine.upstream import DalleBartDecoder, DalleBartEncoder, TextTokenizer, VQGanDetokenizer
from engine.weights.checkpoint import Checkpoint
from engine.weights.config import ModelConfig, read_config
from engine.weights.detokenizer import build_detokenizer
from engine.weights.models import MODELS


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


class LocalMinDalle(MinDalle):  # type: ignore[misc]  # min-dalle has no types
    """Be min-dalle by its own constructor, on files that are there: no hub is asked, and config.json says the sizes."""

    def __init__(self, models_root: Path, model: str) -> None:
        sizes = MODELS[model].sizes
        self._config = read_config(models_root / f"dalle_bart_{model}" / "config.json", sizes)
        super().__init__(str(models_root), torch.float32, "cpu", is_mega=model == "mega", is_verbose=False)

    def init_tokenizer(self) -> None:
        """Take the sizes, which upstream has just set to its own, and read the tokenizer without asking the hub first."""
        config = self._config
        self.layer_count, self.attention_head_count = config.decoder_layer_count, config.attention_head_count
        self.embed_count, self.glu_embed_count = config.embed_count, config.glu_embed_count
        self.text_vocab_count, self.image_vocab_count = config.text_vocab_count, config.image_vocab_count
        vocab = json.loads(Path(self.vocab_path).read_text(encoding="utf-8"))
        merges = Path(self.merges_path).read_text(encoding="utf-8").split("\n")[1:-1]
        self.tokenizer = TextTokenizer(vocab, merges)
