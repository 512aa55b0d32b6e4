"""Export of a training run as Tiny's files: min-dalle's tensor names, matrices in 8 bits with a scale a row.

python -m training.export
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.weights.config import ModelConfig
from engine.weights.tensor_file import is_absent_scale
from training.autoencoder import Detokenizer, load_autoencoder
from training.model import TinyTransformer
from training.paths import DATA, RUNS, TINY
from training.run import load
from training.transformer import CONFIG, FILE

# Chosen with `python -m training.evaluate --temperature ...`: more guidance and more temperature break large things up.
SAMPLING = {"temperature": 0.7, "top_k": 64, "supercondition_factor": 1.25, "best_of": 4}
# With the first 480 s of training: of 1,420 pictures, those with anything in them had 10 different tokens or more, and 74 of 85
# empty sheets had 4 or fewer.
MIN_DISTINCT_TOKENS = 5
LEVELS = 127
TRANSFORMER_LEVELS = 31  # 127 would add 6.6 MB to every clone
_WHOLE = ("embedding.weight", "post_quant_conv.weight", "conv_in.weight", "conv_out.weight")  # small, and their errors show


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
        "detokenizer": None if config.detokenizer is None else asdict(config.detokenizer),
        "sampling": SAMPLING,
        "min_distinct_tokens": MIN_DISTINCT_TOKENS,
    }


def rounded(tensors: dict[str, Tensor], levels: int = LEVELS) -> dict[str, Tensor]:
    """Round matrices to int8 with a scale a row, as `engine.weights.tensor_file.fill_module` reads them; the rest to float16.

    Numbers go from -levels to levels: the fewer, the smaller a compressed file.
    """
    written = {}
    for name, tensor in tensors.items():
        if is_absent_scale(name):
            continue
        if tensor.ndim < 2 or name.endswith(_WHOLE):
            written[name] = tensor.half().contiguous()
            continue
        weight = tensor.float().flatten(1)
        scales = (weight.abs().amax(1, keepdim=True) / levels).clamp(min=1e-12)
        written[name] = (weight / scales).round().to(torch.int8).view(tensor.shape).contiguous()
        written[f"{name}.scale"] = scales[:, 0].contiguous()
    return written


def write_weights(transformer: TinyTransformer, detokenizer: Detokenizer, target: Path) -> None:
    """Write the three weight files into a folder. The transformer's tables must be folded."""
    table = {"embedding.weight": detokenizer.embedding().detach()}
    rest = {name: tensor for name, tensor in detokenizer.state_dict().items() if not name.startswith("lift.")}
    target.mkdir(parents=True, exist_ok=True)
    for name, tensors, levels in (
        ("encoder", transformer.encoder.state_dict(), TRANSFORMER_LEVELS),
        ("decoder", transformer.decoder.state_dict(), TRANSFORMER_LEVELS),
        ("detoker", table | rest, LEVELS),
    ):
        path = target / f"{name}.safetensors"
        save_file(rounded(tensors, levels), path)
        path.chmod(0o644)  # a server that runs as another user must be able to read it


def write_texts(target: Path, config: ModelConfig) -> None:
    """Write the configuration and the tokenizer's files into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(config_json(config), indent=2) + "\n", encoding="utf8")
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(DATA / name, target / name)


def export(run: Path, target: Path) -> None:
    """Write all of Tiny's files except its model card."""
    transformer = TinyTransformer(CONFIG)
    transformer.load_state_dict(load(run / FILE)["model"])
    transformer.fold_tables()
    with torch.no_grad():
        write_weights(transformer, load_autoencoder(run).detokenizer, target)
    write_texts(target, CONFIG)


def main(arguments: list[str] | None = None) -> None:
    """Export the run in the folder for runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, default=TINY)
    export(RUNS, parser.parse_args(arguments).target)


if __name__ == "__main__":
    main()
