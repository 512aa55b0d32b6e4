"""Export of a training run as Tiny's files, in the published checkpoints' format: min-dalle's tensor names, half precision.

python -m training.export
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from engine.weights.config import ModelConfig
from engine.weights.tensor_file import is_absent_scale
from engine.weights.tokenizer import load_tokenizer
from training.codebook import Codebook
from training.detokenizer import CONFIG, TrainedDetokenizer
from training.model import TinyTransformer
from training.paths import RUNS, TINY
from training.transformer import tiny_config

# Chosen with `python -m training.evaluate --temperature ... --supercondition_factor ...`: more guidance breaks up the shapes.
SAMPLING = {"temperature": 0.7, "top_k": 64, "supercondition_factor": 1.3}


def config_json(config: ModelConfig) -> dict[str, object]:
    """Return a model's sizes under the keys of DALL·E Mini's config.json."""
    return {
        "name": config.name,
        "d_model": config.embed_count,
        "encoder_layers": config.encoder_layer_count,
        "decoder_layers": config.decoder_layer_count,
        "encoder_attention_heads": config.attention_head_count,
        "decoder_attention_heads": config.attention_head_count,
        "encoder_ffn_dim": config.glu_embed_count,
        "decoder_ffn_dim": config.glu_embed_count,
        "encoder_vocab_size": config.text_vocab_count,
        "image_vocab_size": config.image_vocab_count,
        "image_length": 256,
        "max_text_length": config.text_token_count,
        "decoder_start_token_id": config.decoder_start_token_id,
        "detokenizer": {"embed_count": CONFIG.embed_count, "log2_widths": list(CONFIG.log2_widths)},
        "sampling": SAMPLING,
    }


def write_module(module: nn.Module, path: Path) -> None:
    """Write a module's tensors as float16, without the scales that the published files lack."""
    tensors = {name: t.half().contiguous() for name, t in module.state_dict().items() if not is_absent_scale(name)}
    save_file(tensors, path)
    path.chmod(0o644)  # a server that runs as another user must be able to read it


def export(run: Path, target: Path) -> None:
    """Write all of Tiny's files except its model card."""
    target.mkdir(parents=True, exist_ok=True)
    config = tiny_config(len(load_tokenizer(run).token_from_subword))
    transformer = TinyTransformer(config)
    transformer.load_state_dict(torch.load(run / "transformer.pt", weights_only=True, map_location="cpu")["model"])
    transformer.fold_tables()
    detokenizer = TrainedDetokenizer(Codebook.load(run / "codebook.npy"))
    detokenizer.load_state_dict(torch.load(run / "detokenizer.pt", weights_only=True, map_location="cpu")["model"])
    write_module(transformer.encoder, target / "encoder.safetensors")
    write_module(transformer.decoder, target / "decoder.safetensors")
    write_module(detokenizer, target / "detoker.safetensors")
    (target / "config.json").write_text(json.dumps(config_json(config), indent=2) + "\n", encoding="utf8")
    # The codebook is needed to encode images for Tiny, or to continue its training.
    for name in ("vocab.json", "merges.txt", "codebook.npy"):
        shutil.copyfile(run / name, target / name)


def main(arguments: list[str] | None = None) -> None:
    """Export the run in the folder for runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, default=TINY)
    export(RUNS, parser.parse_args(arguments).target)


if __name__ == "__main__":
    main()
