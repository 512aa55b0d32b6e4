"""min-dalle itself, on modules in memory or on files: the reference for benchmarks and parity tests."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.upstream.modules import MinDalle, VQGanDetokenizer
from engine.weights.checkpoint import Checkpoint
from engine.weights.config import read_config
from engine.weights.models import MODELS
from engine.weights.tokenizer import load_tokenizer


def min_dalle_on(checkpoint: Checkpoint, device: str = "cpu", dtype: torch.dtype = torch.float32) -> MinDalle:
    """Create a MinDalle with a checkpoint's modules, without its constructor, which downloads weights.

    The modules are on the device already, the encoder and the decoder in the given type.
    """
    model = MinDalle.__new__(MinDalle)
    model.device, model.dtype, model.is_reusable, model.is_verbose = device, dtype, True, False
    model.layer_count, model.embed_count = checkpoint.config.decoder_layer_count, checkpoint.config.embed_count
    model.text_token_count = checkpoint.config.text_token_count
    model.tokenizer, model.encoder, model.decoder = checkpoint.tokenizer, checkpoint.encoder, checkpoint.decoder
    model.detokenizer = VQGanDetokenizer().eval().requires_grad_(False)  # with min-dalle's attention, which ours replaces
    model.detokenizer.load_state_dict(checkpoint.detokenizer.state_dict(), assign=True)
    return model


class LocalMinDalle(MinDalle):  # type: ignore[misc]  # min-dalle has no types
    """min-dalle on local files, loaded by its own constructor: no request to a hub, and the sizes are config.json's."""

    def __init__(self, models_root: Path, model: str) -> None:
        sizes = MODELS[model].sizes
        self._config = read_config(models_root / f"dalle_bart_{model}" / "config.json", sizes)
        super().__init__(str(models_root), torch.float32, "cpu", is_mega=model == "mega", is_verbose=False)

    def init_tokenizer(self) -> None:
        """Replace the sizes, which min-dalle's constructor has just set, and load the tokenizer without a request to the hub."""
        config = self._config
        self.layer_count, self.attention_head_count = config.decoder_layer_count, config.attention_head_count
        self.embed_count, self.glu_embed_count = config.embed_count, config.glu_embed_count
        self.text_vocab_count, self.image_vocab_count = config.text_vocab_count, config.image_vocab_count
        self.tokenizer = load_tokenizer(Path(self.vocab_path).parent)
