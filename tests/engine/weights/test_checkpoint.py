"""Loading weights: in the published files' format, with a one-line error for every invalid file."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.random_weights import write_models_root
from engine.errors import CheckpointError, InvalidRequest
from engine.upstream.modules import DalleBartDecoder, DalleBartEncoder
from engine.weights.checkpoint import Checkpoint, load_checkpoint
from engine.weights.tensor_file import is_absent_scale

ROOT = Path(__file__).parents[3]
PARTS = ("dalle_bart_mini/encoder.pt", "dalle_bart_mini/decoder.pt", "vqgan/detoker.pt")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_models_root(tmp_path / "models")


def load(root: Path, model: str = "mini", dtype: torch.dtype | None = None) -> Checkpoint:
    return load_checkpoint(model, models_root=root, dtype=dtype, progress=False)


def modules_of(checkpoint: Checkpoint) -> dict[str, nn.Module]:
    return dict(zip(PARTS, (checkpoint.encoder, checkpoint.decoder, checkpoint.detokenizer), strict=True))


def error_line(root: Path, path: Path) -> str:
    """Return the error that loading fails with: one line, which names the file and the remedy."""
    with pytest.raises(CheckpointError) as caught:
        load(root)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    assert "huggingface.co" in line and "--models_root" in line
    return line


def edit(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


def test_every_tensor_is_that_of_the_file(root: Path) -> None:
    checkpoint = load(root)
    for part, module in modules_of(checkpoint).items():
        saved = torch.load(root / part, weights_only=True)
        loaded = module.state_dict()
        assert {name for name in loaded if name not in saved} == {name for name in loaded if is_absent_scale(name)}
        for name, tensor in loaded.items():
            assert torch.equal(tensor, saved[name].float() if name in saved else torch.ones_like(tensor)), name


def test_no_tensor_keeps_more_memory_than_it_needs(root: Path) -> None:
    """The files have views of stacked storages: one view would keep the weights of all layers in memory."""
    stacked = torch.load(root / PARTS[0], weights_only=True)["layers.0.self_attn.k_proj.weight"]
    assert stacked.untyped_storage().nbytes() > stacked.numel() * 2 and not stacked.is_contiguous()
    for module in modules_of(load(root)).values():
        storages = set()
        for name, tensor in module.state_dict().items():
            assert tensor.is_contiguous() and tensor.device.type == "cpu", name
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size(), name
            storages.add(tensor.untyped_storage().data_ptr())
        assert len(storages) == len(module.state_dict())


def test_the_encoder_agrees_with_min_dalle_for_any_number_of_prompts(root: Path) -> None:
    """The reference is loaded as min-dalle loads it: into a complete module, with strict=False."""
    reference = DalleBartEncoder(2, 64, 4, 300, 64, 96, "cpu").eval()
    reference.load_state_dict(torch.load(root / PARTS[0], weights_only=True), strict=False)
    encoder = load(root).encoder
    tokens = torch.randint(4, 300, (5, 64))
    with torch.no_grad():
        expected = torch.cat([reference(pair) for pair in (tokens[:2], tokens[2:4], tokens[[4, 4]])])[:5]
        assert torch.allclose(encoder(tokens), expected, atol=1e-6)
        assert torch.allclose(encoder(tokens[:1]), expected[:1], atol=1e-6)


def test_the_decoder_agrees_with_min_dalle(root: Path) -> None:
    reference = DalleBartDecoder(512, 64, 4, 96, 3, "cpu").eval()
    reference.load_state_dict(torch.load(root / PARTS[1], weights_only=True), strict=False)
    arguments = {
        "attention_mask": torch.ones(2, 1, 1, 64, dtype=torch.bool),
        "encoder_state": torch.randn(2, 64, 64),
        "prev_tokens": torch.tensor([[512]]),
        "token_index": torch.tensor([0]),
    }
    with torch.no_grad():
        found, _ = load(root).decoder(attention_state=torch.zeros(3, 4, 256, 64), **arguments)
        expected, _ = reference(attention_state=torch.zeros(3, 4, 256, 64), **arguments)
    assert found.shape == (2, 1, 513)
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_modules_are_for_inference_only(root: Path) -> None:
    for module in modules_of(load(root)).values():
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_importing_min_dalle_leaves_the_process_unchanged() -> None:
    code = (
        "import torch; torch.set_num_threads(1); import engine.weights.checkpoint;"
        "assert torch.is_grad_enabled() and torch.get_num_threads() == 1"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("model", "requested", "expected"),
    [
        ("mini", None, torch.float32),
        ("Mini", torch.bfloat16, torch.bfloat16),
        ("mega", None, torch.float16),
        ("Mega_full", None, torch.float32),
    ],
)
def test_the_precision_is_the_tables_unless_one_is_requested(
    root: Path, model: str, requested: torch.dtype | None, expected: torch.dtype
) -> None:
    (root / "dalle_bart_mini").rename(root / f"dalle_bart_{model.lower().removesuffix('_full')}")
    checkpoint = load(root, model, requested)
    assert {tensor.dtype for tensor in checkpoint.encoder.state_dict().values()} == {expected}
    assert {tensor.dtype for tensor in checkpoint.decoder.state_dict().values()} == {expected}
    assert {tensor.dtype for tensor in checkpoint.detokenizer.state_dict().values()} == {torch.float32}


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Mini"):
        load_checkpoint("nano")


def test_an_inaccessible_folder_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"can't be accessed \(File name too long\)"):
        load_checkpoint("mini", models_root=Path("x" * 300))


class _Attack:
    """A pickle that creates a file if it is executed."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_pickle_with_other_objects_than_tensors_is_not_executed(root: Path, tmp_path: Path, part: str, is_zip: bool) -> None:
    trace = tmp_path / "trace"
    torch.save({"weight": _Attack(trace)}, root / part, _use_new_zipfile_serialization=is_zip)
    assert "contains pickled objects other than tensors" in error_line(root, root / part)
    assert not trace.exists()


def test_a_bare_pickle_is_not_executed(root: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (root / PARTS[0]).write_bytes(pickle.dumps(_Attack(trace)))
    error_line(root, root / PARTS[0])
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b'{"error": "not found"}', "not a weights file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"PK\x03\x04", "truncated"),
        (b"\x80\x02}q\x00", "truncated or damaged"),
        (bytes(5000), "not a weights file"),
    ],
)
@pytest.mark.parametrize("part", PARTS)
def test_a_file_of_another_kind_is_refused(root: Path, part: str, content: bytes, complaint: str) -> None:
    (root / part).write_bytes(content)
    assert complaint in error_line(root, root / part)


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file_is_refused(root: Path, kept: float, is_zip: bool) -> None:
    path = root / PARTS[1]
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=is_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "truncated" in error_line(root, path)


def test_a_file_in_torchs_format_before_zip_is_read(root: Path) -> None:
    path = root / PARTS[0]
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    assert load(root).config.embed_count == 64


def _cut_a_row(tensors: dict[str, Tensor]) -> None:
    tensors["embed_positions.weight"] = tensors["embed_positions.weight"][:-1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_cut_a_row, "tensor embed_positions.weight is (63, 64)"),
        (lambda t: t.pop("layers.1.glu.fc0.weight"), "lacks the tensor layers.1.glu.fc0.weight (1 missing, 0 unexpected)"),
        (lambda t: t.pop("layers.0.self_attn_layer_norm.weight"), "lacks the tensor layers.0.self_attn_layer_norm.weight"),
        (lambda t: t.pop("final_ln.bias"), "lacks the tensor final_ln.bias"),
        (lambda t: t.update({"layers.2.glu.fc0.weight": torch.ones(1)}), "has an unexpected tensor layers.2.glu.fc0.weight"),
        (
            lambda t: t.update({"final_ln.bias": torch.ones(64, dtype=torch.int64)}),
            "tensor final_ln.bias is (64,) of torch.int64",
        ),
        (lambda t: t.update({"final_ln.bias": "a string"}), "does not contain named tensors"),
    ],
)
def test_wrong_tensors_are_named(root: Path, change: Callable[[dict[str, Any]], object], complaint: str) -> None:
    edit(root / PARTS[0], change)
    assert complaint in error_line(root, root / PARTS[0])


def test_scales_in_the_file_are_used(root: Path) -> None:
    edit(root / PARTS[0], lambda t: t.update({"final_ln.weight": torch.full((64,), 3.0)}))
    assert torch.equal(load(root).encoder.final_ln.weight, torch.full((64,), 3.0))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("vocab.json", "<html>", "not readable as JSON"),
        ("vocab.json", "[]", "does not map subwords"),
        ("vocab.json", '{"<s>": "0"}', "does not map subwords"),
        ("vocab.json", '{"<s>": 0, "</s>": 2}', "lacks the subword <unk>"),
        ("merges.txt", "<!doctype html>\n<html lang=en>\n<body>\n", "line 3 is not a pair"),
        ("merges.txt", "#version\na b\nc\n", "line 3 is not a pair"),
        ("config.json", "<html>", "not readable as JSON"),
        ("config.json", '{"d_model": -1}', "d_model is -1"),
    ],
)
def test_a_damaged_text_file_is_refused(root: Path, name: str, content: str, complaint: str) -> None:
    path = root / "dalle_bart_mini" / name
    path.write_text(content)
    assert complaint in error_line(root, path)


@pytest.mark.parametrize("name", [*PARTS, "dalle_bart_mini/vocab.json", "dalle_bart_mini/merges.txt"])
def test_a_file_missing_from_models_root_is_named(root: Path, name: str) -> None:
    (root / name).unlink()
    assert "is missing: save" in error_line(root, root / name)


def test_without_config_json_the_sizes_are_the_tables(root: Path) -> None:
    """As in a folder that min-dalle itself downloaded to. These weights are smaller, so they are refused."""
    (root / "dalle_bart_mini" / "config.json").unlink()
    assert "lacks the tensor layers.2." in error_line(root, root / PARTS[0])
