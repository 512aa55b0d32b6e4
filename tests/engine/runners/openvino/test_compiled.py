"""Converted models: kept on disk, read again, and converted again if they are outdated or damaged."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from engine.runners.openvino import compiled
from engine.runners.openvino.compiled import PAGED, compile_model
from engine.runners.openvino.outline import outline
from engine.runners.openvino.precision import CPU_PRECISIONS
from engine.runners.openvino.runner import OpenVinoRunner
from engine.weights.checkpoint import BUILT_IN_MODELS, ModelFiles, find_model
from host.unfinished import temporary_path, unfinished_folder

GRID = np.arange(256).reshape(1, 16, 16)


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    shutil.copytree(BUILT_IN_MODELS / "tiny", tmp_path / "models" / "tiny")
    return find_model("tiny", models_root=tmp_path / "models")


def first_logits(files: ModelFiles, cache: Path, precision: str = "int8", threads: int = 2) -> NDArray[Any]:
    runner = OpenVinoRunner(compile_model(files, CPU_PRECISIONS[precision], threads, cache))
    runner.admit([runner.encode([0, 5, 6, 2])])
    assert runner.detokenize(GRID).std() > 10
    return runner.step([files.config.decoder_start_token_id], [0]).copy()


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_a_second_start_reads_no_weights(files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "not yet" / "there"
    expected = first_logits(files, cache)
    monkeypatch.setattr(ModelFiles, "load", lambda *_, **__: pytest.fail("the weights were read again"))
    assert np.array_equal(first_logits(files, cache), expected)
    assert len(kept(cache)) == 1


@pytest.mark.parametrize(
    ("damaged", "damage"),
    [("arrays.bin", "cut"), ("arrays.json", "garbage"), ("arrays.bin", "missing"), ("detokenizing.xml", "garbage")],
)
def test_a_damaged_model_is_converted_again(
    files: ModelFiles, tmp_path: Path, damaged: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    expected = first_logits(files, cache)
    part = cache / kept(cache)[0] / damaged
    content = part.read_bytes()
    if damage == "missing":
        part.unlink()
    else:
        part.write_bytes(content[: len(content) // 2] if damage == "cut" else os.urandom(len(content)))
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(first_logits(files, cache), expected)
    assert "is converted again" in caplog.text
    assert part.stat().st_size == pytest.approx(len(content), rel=0.01)


def test_other_weights_and_other_precisions_are_converted_again(files: ModelFiles, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first_logits(files, cache)
    (first,) = kept(cache)
    first_logits(files, cache, "float32")
    assert len(kept(cache)) == 2
    weights = tmp_path / "models" / "tiny" / "decoder.safetensors"
    os.utime(weights, ns=(1, 1))
    first_logits(files, cache)
    assert len(kept(cache)) == 2 and first not in kept(cache), "the one of the older weights is removed"


def test_a_cache_that_cannot_be_written_is_no_error(files: ModelFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert np.isfinite(first_logits(files, cache)).all()
    assert "the next start is as slow" in caplog.text


def test_a_model_is_converted_again_after_a_change_to_the_code(files: ModelFiles, tmp_path: Path) -> None:
    cache, source = tmp_path / "cache", tmp_path / "source.py"
    names = []
    for version in ("1", "1", "2"):
        source.write_text(f"VERSION = {version}")
        compile_model(files, CPU_PRECISIONS["float32"], 2, cache, form=replace(PAGED, sources=(source,)))
        names += kept(cache)
    assert len(names) == 3 and names[0] == names[1] != names[2]


def test_an_outline_has_the_shapes_of_the_weights(files: ModelFiles) -> None:
    """Graphs are built from an outline as they were from the modules, so it must not lack or misname a part of them."""

    def shapes(part: Any, name: str = "") -> dict[str, tuple[int, ...]]:
        if isinstance(part, list):
            part = SimpleNamespace(**{str(index): each for index, each in enumerate(part)})
        if not isinstance(part, SimpleNamespace):
            return {} if isinstance(part, float) else {name: part.shape}
        return {path: shape for key, each in vars(part).items() for path, shape in shapes(each, f"{name}.{key}").items()}

    checkpoint, outlined = files.load(None, progress=False), outline(files.config)
    for modules, namespace in ((checkpoint.encoder, outlined.encoder), (checkpoint.decoder, outlined.decoder)):
        expected = {f".{name}": tuple(weight.shape) for name, weight in modules.named_parameters()}
        assert shapes(namespace) == expected
        assert {part.eps for part in modules.modules() if isinstance(part, nn.LayerNorm)} == {namespace.final_ln.eps}


def test_two_starts_at_once_keep_one_model(files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second start finishes while the first one converts."""
    cache, convert = tmp_path / "cache", compiled.convert
    starts: list[Path] = []

    def convert_slowly(*arguments: Any, **named: Any) -> compiled.Converted:
        converted = convert(*arguments, **named)
        if not starts:
            starts.append(cache)
            compile_model(files, CPU_PRECISIONS["float32"], 2, cache)
        return converted

    monkeypatch.setattr(compiled, "convert", convert_slowly)
    first_logits(files, cache, "float32")
    assert len(kept(cache)) == 1


def test_a_start_sweeps_what_a_killed_one_left_and_nothing_that_is_in_use(files: ModelFiles, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with unfinished_folder(cache) as in_use:
        abandoned = temporary_path(cache)
        abandoned.mkdir()
        (abandoned / "arrays.bin").write_bytes(b"half")
        first_logits(files, cache, "float32")
        assert not abandoned.exists() and in_use.exists()
