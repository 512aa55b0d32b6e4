"""The table of models matches the published configuration, and config.json is checked as it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.random_weights import MINI_SIZES, SMALL_SIZES
from engine.errors import CheckpointError, InvalidRequest
from engine.request import SamplingSettings
from engine.weights.config import DetokenizerConfig, read_config
from engine.weights.models import MODELS, model_spec

STRICT_SIZES = {key: value for key, value in SMALL_SIZES.items() if key != "activation_function"}
DETOKENIZER = {"embed_count": 32, "log2_widths": [6, 5]}


def write(folder: Path, values: object) -> Path:
    path = folder / "config.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


@pytest.mark.parametrize("name", ["mini", "Mini", "MINI", "Mega_full", "mega_FULL", "tiny"])
def test_a_model_is_found_in_any_case(name: str) -> None:
    assert model_spec(name).name == name.lower()


def test_the_error_for_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"'huge'.*Tiny, Mini, Mega, Mega_full") as caught:
        model_spec("huge")
    assert caught.value.field == "model_version"


def test_mega_and_mega_full_are_the_same_files_in_two_precisions() -> None:
    mega, full = MODELS["mega"], MODELS["mega_full"]
    assert (mega.dtype, full.dtype) == ("float16", "float32")
    assert (mega.encoder, mega.decoder, mega.vocab) == (full.encoder, full.decoder, full.vocab)


def test_the_published_configuration_equals_the_table(tmp_path: Path) -> None:
    sizes = MODELS["mini"].sizes
    assert read_config(write(tmp_path, MINI_SIZES), sizes) == sizes


def test_a_complete_configuration_is_read(tmp_path: Path) -> None:
    sampling = {"temperature": 1, "top_k": 64, "supercondition_factor": 3}
    config = read_config(write(tmp_path, STRICT_SIZES | {"sampling": sampling, "name": "small", "min_distinct_tokens": 5}))
    assert (config.name, config.embed_count, config.decoder_layer_count, config.decoder_start_token_id) == ("small", 64, 3, 512)
    assert config.detokenizer == DetokenizerConfig(32, (6, 5))
    assert config.sampling == SamplingSettings(1.0, 64, 3.0)
    assert config.min_distinct_tokens == 5


def test_a_detokenizer_may_have_more_blocks(tmp_path: Path) -> None:
    sizes = {"embed_count": 32, "log2_widths": [6, 5], "middle_blocks": 4, "level_blocks": [2, 1]}
    config = read_config(write(tmp_path, STRICT_SIZES | {"detokenizer": sizes}))
    assert config.detokenizer == DetokenizerConfig(32, (6, 5), 4, (2, 1))


@pytest.mark.parametrize("key", sorted(STRICT_SIZES.keys() - {"detokenizer"}))
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(CheckpointError, match=rf"config\.json lacks the key {key}"):
        read_config(write(tmp_path, {name: value for name, value in STRICT_SIZES.items() if name != key}))


def test_an_unknown_key_is_an_error_only_without_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, STRICT_SIZES | {"d_modle": 1})
    with pytest.raises(CheckpointError, match="unknown key d_modle"):
        read_config(path)
    assert read_config(path, MODELS["mini"].sizes).embed_count == 64


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"d_model": "64"}, "d_model is '64'"),
        ({"d_model": True}, "d_model is True"),
        ({"d_model": 0}, "d_model is 0"),
        ({"d_model": 66}, "not a multiple of 4 heads"),
        ({"decoder_ffn_dim": 97}, "_ffn_dim is 9[67].*must have the same"),
        ({"image_length": 255}, "image_length is 255"),
        ({"decoder_start_token_id": 513}, "decoder_start_token_id 513"),
        ({"detokenizer": {"embed_count": 64}}, "detokenizer must have the keys"),
        ({"detokenizer": {"embed_count": 64, "log2_widths": [7]}}, "list of two"),
        ({"detokenizer": {"embed_count": 64, "log2_widths": [7, 4]}}, "from 5 to 12"),
        ({"detokenizer": {"embed_count": 0, "log2_widths": [7, 5]}}, r"detokenizer\.embed_count is 0"),
        ({"detokenizer": DETOKENIZER | {"blocks": 2}}, "detokenizer must have the keys"),
        ({"detokenizer": DETOKENIZER | {"middle_blocks": 0}}, r"detokenizer\.middle_blocks is 0"),
        ({"detokenizer": DETOKENIZER | {"level_blocks": 2}}, r"detokenizer\.level_blocks must be a list of two"),
        ({"detokenizer": DETOKENIZER | {"level_blocks": [1, "2"]}}, r"detokenizer\.level_blocks is '2'"),
        ({"sampling": {"top_p": 1}}, "sampling may have the keys"),
        ({"sampling": {"top_k": 1.5}}, r"sampling\.top_k is 1\.5"),
        ({"sampling": {"temperature": "hot"}}, r"sampling\.temperature is 'hot'"),
    ],
)
def test_an_invalid_value_is_named(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint) as caught:
        read_config(write(tmp_path, STRICT_SIZES | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "<!doctype html>", "{", "[1]"])
def test_only_a_json_object_is_accepted(tmp_path: Path, content: str) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(write(tmp_path, content))
