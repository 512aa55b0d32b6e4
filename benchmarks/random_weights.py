"""Random weights in the form of the published files: what benchmarks draw with, and the tests' hub on loopback serves.

The form: half precision, a `.bias` without `.weight` for the norms that have no scale, the layers' weights as transposed views of
stacked storages, one row more in the image embedding and in lm_head than the image vocabulary has, one subword more in the
vocabulary than the text embedding has rows.
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

from engine.upstream import DalleBartDecoder, DalleBartEncoder, VQGanDetokenizer
from engine.weights.config import DetokenizerConfig
from engine.weights.detokenizer import TinyDetokenizer

SCALE_LESS = re.compile(r"(^|\.)(pre_self_attn_layer_norm|pre_encoder_attn_layer_norm|glu\.ln0|glu\.ln1|final_ln)\.weight$")
LAYER = re.compile(r"^layers\.(\d+)\.(.+)$")

# The published configuration's keys. Unlike it, the small one also asks for a small detokenizer.
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


def write_hub_folder(folder: Path, sizes: Mapping[str, Any] = SMALL_SIZES, seed: int = 0) -> Path:
    """Write Mini's six files under the names they have on the hub, and give the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    torch.save(_published_form(_encoder(sizes)), folder / "encoder_mini.pt")
    torch.save(_published_form(_decoder(sizes)), folder / "decoder_mini.pt")
    torch.save(_random(_detokenizer(sizes).state_dict(), torch.float32), folder / "detoker.pt")
    write_vocabulary(folder, "_mini", sizes["encoder_vocab_size"])
    (folder / "config_mini.json").write_text(json.dumps(sizes))
    return folder


def write_models_root(root: Path, sizes: Mapping[str, Any] = SMALL_SIZES, seed: int = 0, model: str = "mini") -> Path:
    """Write a model's files laid out as min-dalle's models_root, and give the folder."""
    hub = write_hub_folder(root / f"dalle_bart_{model}", sizes, seed)
    (root / "vqgan").mkdir()
    (hub / "detoker.pt").rename(root / "vqgan" / "detoker.pt")
    for path in hub.glob("*_mini.*"):
        path.rename(path.with_name(path.name.replace("_mini", "")))
    return root


def _encoder(sizes: Mapping[str, Any]) -> nn.Module:
    with torch.device("meta"):
        encoder: nn.Module = DalleBartEncoder(
            layer_count=sizes["encoder_layers"],
            embed_count=sizes["d_model"],
            attention_head_count=sizes["encoder_attention_heads"],
            text_vocab_count=sizes["encoder_vocab_size"],
            text_token_count=sizes["max_text_length"],
            glu_embed_count=sizes["encoder_ffn_dim"],
            device="meta",
        )
    return encoder


def _decoder(sizes: Mapping[str, Any]) -> nn.Module:
    with torch.device("meta"):
        decoder: nn.Module = DalleBartDecoder(
            image_vocab_count=sizes["image_vocab_size"],
            embed_count=sizes["d_model"],
            attention_head_count=sizes["decoder_attention_heads"],
            glu_embed_count=sizes["decoder_ffn_dim"],
            layer_count=sizes["decoder_layers"],
            device="meta",
        )
    return decoder


def _detokenizer(sizes: Mapping[str, Any]) -> nn.Module:
    small = sizes.get("detokenizer")
    with torch.device("meta"):
        if small is None:
            vqgan: nn.Module = VQGanDetokenizer()
            return vqgan
        return TinyDetokenizer(sizes["image_vocab_size"], DetokenizerConfig(small["embed_count"], tuple(small["log2_widths"])))


def _published_form(module: nn.Module) -> OrderedDict[str, Tensor]:
    """Fill a module's state with random halves: a layer's tensors are views of one storage for all layers."""
    shapes = {name: tensor for name, tensor in module.state_dict().items() if not SCALE_LESS.search(name)}
    layer_names = {match[2]: shapes[name] for name in shapes if (match := LAYER.match(name))}
    layer_count = 1 + max(int(match[1]) for name in shapes if (match := LAYER.match(name)))
    stacks = {name: torch.empty((layer_count, *reversed(shape.shape)), device="meta") for name, shape in layer_names.items()}
    stacked = _random(stacks, torch.float16)
    state = _random({name: shape for name, shape in shapes.items() if not LAYER.match(name)}, torch.float16)
    for name in shapes:
        if match := LAYER.match(name):
            state[name] = stacked[match[2]][int(match[1])].t()  # [out, in], as a view of [layers, in, out]
    return state


def _random(shapes: Mapping[str, Tensor], dtype: torch.dtype) -> OrderedDict[str, Tensor]:
    """Draw small numbers of the given shapes. A block is repeated: at Mini's sizes, to draw each number would take longest."""
    block = torch.randn(1_000_003) * 0.05
    state: OrderedDict[str, Tensor] = OrderedDict()
    for name, shape in shapes.items():
        tensor = block.roll(len(state)).to(dtype).repeat(shape.numel() // len(block) + 1)[: shape.numel()].clone()
        state[name] = tensor.view(shape.shape)
    return state


def write_vocabulary(folder: Path, suffix: str, count: int) -> None:
    """Write vocab.json and merges.txt with a few real subwords, filled up to one more than `count`."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *map(chr, range(ord("!"), ord("~") + 1)), "Ġa", "Ġr", "Ġre", "Ġred"]
    pieces += [f"filler{i}" for i in range(count - len(pieces))]
    vocab = {piece: i for i, piece in enumerate([*pieces, "overflow"])}
    (folder / f"vocab{suffix}.json").write_text(json.dumps(vocab))
    (folder / f"merges{suffix}.txt").write_text("#version: 0.2\nĠ a\nĠ r\nĠr e\nĠre d\no verflow\n", encoding="utf-8")
