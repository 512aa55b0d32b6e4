"""Loading weights of Tiny's form: safetensors, in 16 bits or in 8 with a scale a row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.random_weights import SMALL_SIZES, write_hub_folder
from engine.errors import CheckpointError
from engine.weights.checkpoint import find_model
from tests.engine.weights.test_checkpoint import load


def write_tiny(folder: Path) -> None:
    """Write Mini's weights in Tiny's format, safetensors in half precision."""
    source = write_hub_folder(folder / "source")
    (folder / "tiny").mkdir()
    for name, to in (("encoder_mini", "encoder"), ("decoder_mini", "decoder"), ("detoker", "detoker")):
        tensors = torch.load(source / f"{name}.pt", weights_only=True)
        whole = {key: tensor.half().contiguous().clone() for key, tensor in tensors.items()}
        save_file(whole, folder / "tiny" / f"{to}.safetensors")
    (source / "vocab_mini.json").rename(folder / "tiny" / "vocab.json")
    (source / "merges_mini.txt").rename(folder / "tiny" / "merges.txt")
    sizes = {key: value for key, value in SMALL_SIZES.items() if key != "activation_function"}
    (folder / "tiny" / "config.json").write_text(json.dumps(sizes))


def test_tinys_safetensors_are_widened_to_float32(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    checkpoint = load(tmp_path, "Tiny")
    assert checkpoint.config.name == "tiny"
    assert {tensor.dtype for tensor in checkpoint.decoder.state_dict().values()} == {torch.float32}


def test_a_model_may_have_a_list_of_what_it_draws(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    assert find_model("tiny", models_root=tmp_path).known_words() is None
    (tmp_path / "tiny" / "known_words.json").write_text('{"things": {"cat": []}}')
    words = find_model("tiny", models_root=tmp_path).known_words()
    assert words is not None and words.unknown_words("two cats") == ["two"]
    (tmp_path / "tiny" / "known_words.json").write_text("<html>")
    with pytest.raises(CheckpointError, match="restore it with: git checkout"):
        find_model("tiny", models_root=tmp_path).known_words()


def write_eight_bits(folder: Path, change: Callable[[dict[str, Tensor]], object] = len) -> dict[str, Tensor]:
    """Write Tiny's encoder with its matrices in 8 bits; return the tensors as they should be loaded."""
    write_tiny(folder)
    path = folder / "tiny" / "encoder.safetensors"
    written, expected = {}, {}
    for name, tensor in load_file(path).items():
        written[name], expected[name] = tensor, tensor.float()
        if tensor.ndim == 2:
            whole, scale = torch.randint(-127, 128, tensor.shape, dtype=torch.int8), torch.rand(len(tensor))
            written |= {name: whole, f"{name}.scale": scale}
            expected[name] = whole.float() * scale[:, None]
    change(written)
    save_file(written, path)
    return expected


def test_eight_bits_and_a_scale_a_row_are_widened_exactly(tmp_path: Path) -> None:
    expected = write_eight_bits(tmp_path)
    for dtype in (None, torch.bfloat16):
        loaded = load(tmp_path, "Tiny", dtype).encoder.state_dict()
        for name, tensor in expected.items():
            assert torch.equal(loaded[name], tensor.to(dtype or torch.float32)), name


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop("embed_tokens.weight.scale"), "embed_tokens.weight is .* of torch.int8, not .* of floats"),
        (lambda t: t.update({"embed_tokens.weight.scale": torch.ones(3)}), "embed_tokens.weight.scale does not have a number"),
        (lambda t: t.update({"final_ln.bias.scale": torch.ones(64)}), "final_ln.bias is .* of torch.float16"),
        (lambda t: t.update({"other.scale": torch.ones(3)}), "unexpected tensor other.scale"),
    ],
)
def test_wrong_scales_are_named(tmp_path: Path, change: Callable[[dict[str, Tensor]], object], complaint: str) -> None:
    write_eight_bits(tmp_path, change)
    with pytest.raises(CheckpointError, match=complaint):
        load(tmp_path, "Tiny")


@pytest.mark.parametrize(("content", "complaint"), [(b"<html>", "a web page"), (bytes(100), "truncated or damaged")])
def test_the_remedy_for_a_damaged_file_of_tinys_is_git(tmp_path: Path, content: bytes, complaint: str) -> None:
    write_tiny(tmp_path)
    (tmp_path / "tiny" / "decoder.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"decoder\.safetensors .*{complaint}.*; restore it with: git checkout"):
        load(tmp_path, "Tiny")
