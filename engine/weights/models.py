"""The table of models: their files, sizes and precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from engine.errors import InvalidRequest
from engine.weights.config import ModelConfig

HUB_REPO = "kuprel/min-dalle"


# A branch, as its commit could not be looked up where this was written. What was checked is pinned all the same: the big
# files' sizes and sha256 are in the table below, and a cached snapshot is used as it is, without asking for a newer one.
HUB_REVISION = "main"


@dataclass(frozen=True)
class WeightFile:
    """Hold where one file of a model lies, and what is known of its content.

    `path` is below the models root, laid out as min-dalle's; `hub_name` is None for a model that is not on the hub.
    `size` (bytes) and `sha256_prefix` are of the file in `HUB_REPO`, and say nothing about another repository's.
    """

    path: str
    hub_name: str | None = None
    size: int | None = None
    sha256_prefix: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """Hold what the table knows of one model: its files, its sizes and the precision its weights are kept in.

    `sizes` is None where only the model's own config.json says them.
    """

    name: str
    dtype: Literal["float16", "float32"]
    encoder: WeightFile
    decoder: WeightFile
    detokenizer: WeightFile
    vocab: WeightFile
    merges: WeightFile
    config: WeightFile
    sizes: ModelConfig | None = None


_DETOKER = WeightFile("vqgan/detoker.pt", "detoker.pt", 186_899_831, "7e1ea14c")


_TINY = ModelSpec(
    name="tiny",
    dtype="float32",
    encoder=WeightFile("tiny/encoder.safetensors"),
    decoder=WeightFile("tiny/decoder.safetensors"),
    detokenizer=WeightFile("tiny/detoker.safetensors"),
    vocab=WeightFile("tiny/vocab.json"),
    merges=WeightFile("tiny/merges.txt"),
    config=WeightFile("tiny/config.json"),
)


_MINI = ModelSpec(
    name="mini",
    dtype="float32",
    encoder=WeightFile("dalle_bart_mini/encoder.pt", "encoder_mini.pt", 405_201_458, "158e1ff1"),
    decoder=WeightFile("dalle_bart_mini/decoder.pt", "decoder_mini.pt", 470_515_674, "f8343c2b"),
    detokenizer=_DETOKER,
    vocab=WeightFile("dalle_bart_mini/vocab.json", "vocab_mini.json"),
    merges=WeightFile("dalle_bart_mini/merges.txt", "merges_mini.txt"),
    config=WeightFile("dalle_bart_mini/config.json", "config_mini.json"),
    sizes=ModelConfig(
        name="mini",
        embed_count=1024,
        attention_head_count=16,
        glu_embed_count=2730,
        encoder_layer_count=12,
        decoder_layer_count=12,
        text_vocab_count=50264,
        image_vocab_count=16384,
        decoder_start_token_id=16384,
    ),
)


_MEGA = ModelSpec(
    name="mega",
    dtype="float16",
    encoder=WeightFile("dalle_bart_mega/encoder.pt", "encoder.pt", 2_220_079_602, "76e7797b"),
    decoder=WeightFile("dalle_bart_mega/decoder.pt", "decoder.pt", 2_955_054_938, "fc94a4df"),
    detokenizer=_DETOKER,
    vocab=WeightFile("dalle_bart_mega/vocab.json", "vocab.json"),
    merges=WeightFile("dalle_bart_mega/merges.txt", "merges.txt"),
    config=WeightFile("dalle_bart_mega/config.json", "config.json"),
    sizes=ModelConfig(
        name="mega",
        embed_count=2048,
        attention_head_count=32,
        glu_embed_count=4096,
        encoder_layer_count=24,
        decoder_layer_count=24,
        text_vocab_count=50272,
        image_vocab_count=16415,
        decoder_start_token_id=16384,
    ),
)


# Mega_full holds the same files as Mega, widened to float32.
MODELS: dict[str, ModelSpec] = {
    "tiny": _TINY,
    "mini": _MINI,
    "mega": _MEGA,
    "mega_full": replace(_MEGA, name="mega_full", dtype="float32"),
}


def model_spec(name: str) -> ModelSpec:
    """Find a model in the table by its name, in any case.

    Raises InvalidRequest, naming the models there are.
    """
    spec = MODELS.get(name.lower())
    if spec is None:
        raise InvalidRequest("model_version", f"there is no model {name!r}; take one of {', '.join(map(str.capitalize, MODELS))}")
    return spec
