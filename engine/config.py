"""The model table, and the sizes of a model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from engine.errors import CheckpointError, InvalidRequest, first_line
from engine.request import IMAGE_TOKEN_COUNT, SamplingSettings

HUB_REPO = "kuprel/min-dalle"
# A branch, as its commit could not be looked up where this was written. What was checked is pinned all the same: the big
# files' sizes and sha256 are in the table below, and a cached snapshot is used as it is, without asking for a newer one.
HUB_REVISION = "main"


@dataclass(frozen=True)
class DetokenizerConfig:
    """Hold the sizes of the VQGAN detokenizer.

    `None` in place of this means min-dalle's own `VQGanDetokenizer`, whose sizes are fixed.
    Widths are given as log2, as min-dalle's blocks take them.
    """

    embed_count: int
    log2_widths: tuple[int, ...]  # at the tokens' size, and at 4 and 8 times that


@dataclass(frozen=True)
class ModelConfig:
    """Hold the sizes of one model, and its sampling defaults."""

    name: str
    embed_count: int
    attention_head_count: int
    glu_embed_count: int
    encoder_layer_count: int
    decoder_layer_count: int
    text_vocab_count: int
    image_vocab_count: int  # the embedding and lm_head have one row more
    decoder_start_token_id: int
    text_token_count: int = 64
    detokenizer: DetokenizerConfig | None = None
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    @property
    def logit_count(self) -> int:
        """Return how many tokens can be drawn: those the detokenizer knows, at most 2**14 as in min-dalle."""
        return min(self.image_vocab_count, 2**14)


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


# A count in config.json, by the name that DALL·E Mini's own configuration gives it -> the field of ModelConfig.
_COUNTS = {
    "d_model": "embed_count",
    "encoder_layers": "encoder_layer_count",
    "decoder_layers": "decoder_layer_count",
    "encoder_attention_heads": "attention_head_count",
    "decoder_attention_heads": "attention_head_count",
    "encoder_ffn_dim": "glu_embed_count",
    "decoder_ffn_dim": "glu_embed_count",
    "encoder_vocab_size": "text_vocab_count",
    "image_vocab_size": "image_vocab_count",
    "max_text_length": "text_token_count",
    "decoder_start_token_id": "decoder_start_token_id",
}
_OWN_KEYS = {"image_length", "detokenizer", "sampling", "name"}


def read_config(path: Path, defaults: ModelConfig | None = None) -> ModelConfig:
    """Read a model's config.json.

    With `defaults`, an absent key keeps its default and an unknown one is passed over: DALL·E Mini's published
    configurations have many that sizes don't depend on. Without, both are refused, so that a slip is found.
    Raises CheckpointError, naming the file and the key.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable as JSON ({first_line(error)})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    if defaults is None:
        _refuse_slips(path, values)
    fields: dict[str, Any] = {}
    for key in _COUNTS.keys() & values.keys():
        count = _positive_int(path, key, values[key])
        if fields.setdefault(_COUNTS[key], count) != count:
            raise CheckpointError(f"{path}: {key} is {count}, but the encoder and the decoder must have the same")
    if values.get("image_length", IMAGE_TOKEN_COUNT) != IMAGE_TOKEN_COUNT:
        raise CheckpointError(f"{path}: image_length is {values['image_length']!r}, but must be {IMAGE_TOKEN_COUNT}")
    if "detokenizer" in values:
        fields["detokenizer"] = _detokenizer(path, values["detokenizer"])
    if "sampling" in values:
        fields["sampling"] = _sampling(path, values["sampling"])
    if defaults is None:
        config = ModelConfig(name=str(values.get("name", path.parent.name)), **fields)
    else:
        config = replace(defaults, **fields)
    if config.embed_count % config.attention_head_count:
        raise CheckpointError(f"{path}: d_model {config.embed_count} is not a multiple of {config.attention_head_count} heads")
    if config.decoder_start_token_id > config.image_vocab_count:
        raise CheckpointError(f"{path}: decoder_start_token_id {config.decoder_start_token_id} is outside the image vocabulary")
    return config


def _refuse_slips(path: Path, values: dict[str, Any]) -> None:
    for key in [*_COUNTS, "image_length"]:
        if key not in values:
            raise CheckpointError(f"{path} lacks the key {key}")
    for key in values:
        if key not in _COUNTS and key not in _OWN_KEYS:
            raise CheckpointError(f"{path} has an unknown key {key}")


def _positive_int(path: Path, key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{path}: {key} is {value!r}, but must be a whole number above 0")
    return value


def _detokenizer(path: Path, value: object) -> DetokenizerConfig | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {"embed_count", "log2_widths"}:
        raise CheckpointError(f"{path}: detokenizer must have the keys embed_count and log2_widths, and no other")
    widths = value["log2_widths"]
    if not isinstance(widths, list) or len(widths) != 2:
        raise CheckpointError(f"{path}: detokenizer.log2_widths must be a list of two")
    if not all(isinstance(width, int) and 5 <= width <= 12 for width in widths):  # 2**5: the blocks' norms have 32 groups
        raise CheckpointError(f"{path}: detokenizer.log2_widths is {widths}, but must be whole numbers from 5 to 12")
    return DetokenizerConfig(
        embed_count=_positive_int(path, "detokenizer.embed_count", value["embed_count"]),
        log2_widths=tuple(widths),
    )


def _sampling(path: Path, value: object) -> SamplingSettings:
    names = {"temperature", "top_k", "supercondition_factor"}
    if not isinstance(value, dict) or not value.keys() <= names:
        raise CheckpointError(f"{path}: sampling may have the keys {', '.join(sorted(names))}, and no other")
    settings = dict(value)
    if "top_k" in settings:
        settings["top_k"] = _positive_int(path, "sampling.top_k", settings["top_k"])
    for key in settings.keys() - {"top_k"}:
        if isinstance(settings[key], bool) or not isinstance(settings[key], (int, float)):
            raise CheckpointError(f"{path}: sampling.{key} is {settings[key]!r}, but must be a number")
        settings[key] = float(settings[key])
    return SamplingSettings(**settings)
