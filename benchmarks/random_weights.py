"""Random weights in the format of the published files, for benchmarks and for the tests' hub on loopback.

The format: half precision; a `.bias` but no `.weight` for norms without scale; the layers' weights as transposed views of stacked
storages; one more row in the image embedding and in lm_head than the size of the image vocabulary; one more subword in the
vocabulary than rows in the text embedding.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.weights.config import read_config
from engine.weights.detokenizer import build_detokenizer
from engine.weights.models import MODELS
from engine.weights.skeleton import build_decoder, build_encoder, without_weights
from engine.weights.tensor_file import is_absent_scale

_LAYER = re.compile(r"^layers\.(\d+)\.(.+)$")

# In the published configuration's keys. The small sizes also have a small detokenizer's.
MINI_SIZES: dict[str, Any] = {
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 2730,
    "decoder_ffn_dim": 2730,
    "encoder_vocab_size": 50264,
    "image_vocab_size": 16384,
    "image_length": 256,
    "max_text_length": 64,
    "decoder_start_token_id": 16384,
    "activation_function": "gelu",
}
SMALL_SIZES: dict[str, Any] = MINI_SIZES | {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "encoder_vocab_size": 300,
    "image_vocab_size": 512,
    "decoder_start_token_id": 512,
    "detokenizer": {"embed_count": 32, "log2_widths": [6, 5]},
}
MEGA_SIZES: dict[str, Any] = MINI_SIZES | {
    "d_model": 2048,
    "encoder_layers": 24,
    "decoder_layers": 24,
    "encoder_attention_heads": 32,
    "decoder_attention_heads": 32,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "encoder_vocab_size": 50272,
    "image_vocab_size": 16415,
}
SIZES = {"small": SMALL_SIZES, "mini": MINI_SIZES, "mega": MEGA_SIZES}


def write_hub_folder(folder: Path, sizes: Mapping[str, Any] = SMALL_SIZES) -> Path:
    """Write Mini's six files under their names on the hub, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config_json = folder / "config_mini.json"
    config_json.write_text(json.dumps(sizes))
    write_vocabulary(folder, "_mini", sizes["encoder_vocab_size"])
    config = read_config(config_json, MODELS["mini"].sizes)
    with without_weights():
        encoder, decoder, detokenizer = build_encoder(config), build_decoder(config), build_detokenizer(config)
    torch.manual_seed(0)
    torch.save(_published_form(encoder), folder / "encoder_mini.pt")
    torch.save(_published_form(decoder), folder / "decoder_mini.pt")
    torch.save(_random(detokenizer.state_dict(), torch.float32), folder / "detoker.pt")
    return folder


def write_models_root(root: Path, sizes: Mapping[str, Any] = SMALL_SIZES, model: str = "mini") -> Path:
    """Write a model's files in the layout of min-dalle's models_root, and return the folder."""
    hub = write_hub_folder(root / f"dalle_bart_{model}", sizes)
    (root / "vqgan").mkdir()
    (hub / "detoker.pt").rename(root / "vqgan" / "detoker.pt")
    for path in hub.glob("*_mini.*"):
        path.rename(path.with_name(path.name.replace("_mini", "")))
    return root


def _published_form(module: nn.Module) -> OrderedDict[str, Tensor]:
    """Return a module's state with random float16 values; the layers' tensors are views of one storage for all layers."""
    shapes = {name: tensor for name, tensor in module.state_dict().items() if not is_absent_scale(name)}
    layer_names = {match[2]: shapes[name] for name in shapes if (match := _LAYER.match(name))}
    layer_count = 1 + max(int(match[1]) for name in shapes if (match := _LAYER.match(name)))
    stacks = {name: torch.empty((layer_count, *reversed(shape.shape)), device="meta") for name, shape in layer_names.items()}
    stacked = _random(stacks, torch.float16)
    state = _random({name: shape for name, shape in shapes.items() if not _LAYER.match(name)}, torch.float16)
    for name in shapes:
        if match := _LAYER.match(name):
            state[name] = stacked[match[2]][int(match[1])].t()  # [out, in], as a view of [layers, in, out]
    return state


def _random(shapes: Mapping[str, Tensor], dtype: torch.dtype) -> OrderedDict[str, Tensor]:
    """Return small random numbers in the given shapes. They repeat a block: drawing all of Mini's numbers takes too long."""
    block = torch.randn(1_000_003) * 0.05
    state: OrderedDict[str, Tensor] = OrderedDict()
    for name, shape in shapes.items():
        tensor = block.roll(len(state)).to(dtype).repeat(shape.numel() // len(block) + 1)[: shape.numel()].clone()
        state[name] = tensor.view(shape.shape)
    return state


def write_vocabulary(folder: Path, suffix: str, count: int) -> None:
    """Write vocab.json and merges.txt: a few real subwords, then fillers, one more than `count` in all."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *map(chr, range(ord("!"), ord("~") + 1)), "Ġa", "Ġr", "Ġre", "Ġred"]
    pieces += [f"filler{i}" for i in range(count - len(pieces))]
    vocab = {piece: i for i, piece in enumerate([*pieces, "overflow"])}
    (folder / f"vocab{suffix}.json").write_text(json.dumps(vocab))
    (folder / f"merges{suffix}.txt").write_text("#version: 0.2\nĠ a\nĠ r\nĠr e\nĠre d\no verflow\n", encoding="utf-8")
