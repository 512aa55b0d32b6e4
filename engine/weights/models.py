"""The table of models: their files, sizes and precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from engine.errors import InvalidRequest
from engine.weights.config import ModelConfig

HUB_REPO = "kuprel/min-dalle"
# A branch: its commit was not available when this was written. The content is pinned all the same: the table below has the
# sizes and hashes of the large files, and a cached snapshot is used as it is, without a request for a newer one.
HUB_REVISION = "main"


@dataclass(frozen=True)
class WeightFile:
    """One file of a model: its location, and its expected content.

    `size` and `sha256_prefix` are those of the file in `HUB_REPO`; another repository's file may differ.
    """

    path: str  # below the models root, in min-dalle's layout
    hub_name: str | None = None  # None: the model is not on the hub
    size: int | None = None  # bytes
    sha256_prefix: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """A row of the table: a model's files, its sizes and the precision that its weights are kept in."""

    name: str
    dtype: Literal["float16", "float32"]
    encoder: WeightFile
    decoder: WeightFile
    detokenizer: WeightFile
    vocab: WeightFile
    merges: WeightFile
    config: WeightFile
    sizes: ModelConfig | None = None  # None: config.json must have them all
    known_words: WeightFile | None = None  # None: the model knows more than a list can say


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
    known_words=WeightFile("tiny/known_words.json"),
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

MODELS: dict[str, ModelSpec] = {
    "tiny": _TINY,
    "mini": _MINI,
    "mega": _MEGA,
    "mega_full": replace(_MEGA, name="mega_full", dtype="float32"),  # the same files as Mega, widened
}


def model_spec(name: str) -> ModelSpec:
    """Return a model's row of the table by its name, in any case.

    Raises InvalidRequest, which lists the models.
    """
    spec = MODELS.get(name.lower())
    if spec is None:
        raise InvalidRequest(
            "model_version", f"there is no model {name!r}; choose one of {', '.join(map(str.capitalize, MODELS))}"
        )
    return spec
