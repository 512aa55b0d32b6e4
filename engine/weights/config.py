"""A model's sizes, and reading them from its config.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError, first_line
from engine.request import IMAGE_TOKEN_COUNT, TEXT_TOKEN_COUNT, SamplingSettings


@dataclass(frozen=True)
class DetokenizerConfig:
    """The sizes of Tiny's detokenizer.

    Widths are log2, as min-dalle's blocks take them. Models without this use min-dalle's `VQGanDetokenizer`, whose sizes are
    fixed.
    """

    embed_count: int
    log2_widths: tuple[int, ...]  # at the resolution of the tokens, and at 4 and 8 times that
    middle_blocks: int = 1  # at the resolution of the tokens
    level_blocks: tuple[int, ...] = (1, 1)  # at 4 times that, and at 8 times


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of a model, and its sampling defaults."""

    name: str
    embed_count: int
    attention_head_count: int
    glu_embed_count: int
    encoder_layer_count: int
    decoder_layer_count: int
    text_vocab_count: int
    image_vocab_count: int  # the embedding and lm_head have one more row
    decoder_start_token_id: int
    text_token_count: int = TEXT_TOKEN_COUNT
    detokenizer: DetokenizerConfig | None = None  # None: min-dalle's
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    min_distinct_tokens: int = 1  # an image with fewer different ones is an empty sheet: another candidate is shown, if there is

    @property
    def logit_count(self) -> int:
        """The number of tokens to sample from: the image vocabulary, at most 2**14 as in min-dalle."""
        return min(self.image_vocab_count, 2**14)


# A key of DALL·E Mini's config.json -> the field of ModelConfig.
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
_OTHER_KEYS = {"image_length", "detokenizer", "sampling", "name", "min_distinct_tokens"}


def read_config(path: Path, defaults: ModelConfig | None = None) -> ModelConfig:
    """Read a model's config.json.

    Args:
        path: The file.
        defaults: Values for absent keys. If given, unknown keys are ignored: DALL·E Mini's published files have many that are
            not sizes. If None, absent and unknown keys are errors, so that a misspelled key is found.

    Raises CheckpointError, which names the file and the key.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable as JSON ({first_line(error)})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    if defaults is None:
        _check_keys(path, values)
    fields: dict[str, Any] = {}
    for key in _COUNTS.keys() & values.keys():
        count = _positive_int(path, key, values[key])
        if fields.setdefault(_COUNTS[key], count) != count:
            raise CheckpointError(f"{path}: {key} is {count}, but the encoder and the decoder must have the same")
    if values.get("image_length", IMAGE_TOKEN_COUNT) != IMAGE_TOKEN_COUNT:
        raise CheckpointError(f"{path}: image_length is {values['image_length']!r}, but must be {IMAGE_TOKEN_COUNT}")
    if "detokenizer" in values:
        fields["detokenizer"] = _detokenizer(path, values["detokenizer"])
    if "min_distinct_tokens" in values:
        fields["min_distinct_tokens"] = _positive_int(path, "min_distinct_tokens", values["min_distinct_tokens"])
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


def _check_keys(path: Path, values: dict[str, Any]) -> None:
    for key in [*_COUNTS, "image_length"]:
        if key not in values:
            raise CheckpointError(f"{path} lacks the key {key}")
    for key in values:
        if key not in _COUNTS and key not in _OTHER_KEYS:
            raise CheckpointError(f"{path} has an unknown key {key}")


def _positive_int(path: Path, key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{path}: {key} is {value!r}, but must be a whole number above 0")
    return value


def _detokenizer(path: Path, value: object) -> DetokenizerConfig | None:
    if value is None:
        return None
    needed, optional = {"embed_count", "log2_widths"}, {"middle_blocks", "level_blocks"}
    if not isinstance(value, dict) or not needed <= value.keys() <= needed | optional:
        raise CheckpointError(
            f"{path}: detokenizer must have the keys embed_count and log2_widths, may have middle_blocks and level_blocks, "
            "and no other"
        )
    for key in ("log2_widths", "level_blocks"):
        if key in value and (not isinstance(value[key], list) or len(value[key]) != 2):
            raise CheckpointError(f"{path}: detokenizer.{key} must be a list of two")
    widths = value["log2_widths"]
    if not all(isinstance(width, int) and 5 <= width <= 12 for width in widths):  # 2**5: the blocks' norms have 32 groups
        raise CheckpointError(f"{path}: detokenizer.log2_widths is {widths}, but must be whole numbers from 5 to 12")
    return DetokenizerConfig(
        embed_count=_positive_int(path, "detokenizer.embed_count", value["embed_count"]),
        log2_widths=tuple(widths),
        middle_blocks=_positive_int(path, "detokenizer.middle_blocks", value.get("middle_blocks", 1)),
        level_blocks=tuple(_positive_int(path, "detokenizer.level_blocks", each) for each in value.get("level_blocks", [1, 1])),
    )


def _sampling(path: Path, value: object) -> SamplingSettings:
    names = {"temperature", "top_k", "supercondition_factor", "best_of"}
    if not isinstance(value, dict) or not value.keys() <= names:
        raise CheckpointError(f"{path}: sampling may have the keys {', '.join(sorted(names))}, and no other")
    settings = dict(value)
    counts = settings.keys() & {"top_k", "best_of"}
    for key in counts:
        settings[key] = _positive_int(path, f"sampling.{key}", settings[key])
    for key in settings.keys() - counts:
        if isinstance(settings[key], bool) or not isinstance(settings[key], (int, float)):
            raise CheckpointError(f"{path}: sampling.{key} is {settings[key]!r}, but must be a number")
        settings[key] = float(settings[key])
    return SamplingSettings(**settings)
