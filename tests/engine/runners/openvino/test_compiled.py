"""Converted models are kept, found again, and built anew where they don't fit or are damaged."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.runners.openvino import compiled, graphs
from engine.runners.openvino.compiled import compile_model
from engine.runners.openvino.precision import PRECISIONS
from engine.runners.openvino.runner import OpenVinoRunner
from engine.weights.checkpoint import BUILT_IN_MODELS, ModelFiles, find_model
from host.unfinished import temporary_path, unfinished_folder

GRID = np.arange(256).reshape(1, 16, 16)


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    shutil.copytree(BUILT_IN_MODELS / "tiny", tmp_path / "models" / "tiny")
    return find_model("tiny", models_root=tmp_path / "models")


def first_logits(files: ModelFiles, cache: Path, precision: str = "int8", threads: int = 2) -> NDArray[Any]:
    runner = OpenVinoRunner(compile_model(files, PRECISIONS[precision], threads, cache))
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
def test_a_damaged_one_is_built_again(
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
    assert "is made again" in caplog.text
    assert part.stat().st_size == pytest.approx(len(content), rel=0.01)


def test_other_weights_and_other_precisions_are_compiled_anew(files: ModelFiles, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first_logits(files, cache)
    (first,) = kept(cache)
    first_logits(files, cache, "float32")
    assert len(kept(cache)) == 2
    weights = tmp_path / "models" / "tiny" / "decoder.safetensors"
    os.utime(weights, ns=(1, 1))
    first_logits(files, cache)
    assert len(kept(cache)) == 2 and first not in kept(cache), "the older weights' is dropped"


def test_a_cache_that_cannot_be_written_is_no_error(files: ModelFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert np.isfinite(first_logits(files, cache)).all()
    assert "the next start is as slow" in caplog.text


def test_another_way_of_making_it_is_noticed(files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    first_logits(files, cache, "float32")
    (first,) = kept(cache)
    changed = tmp_path / "graphs.py"
    changed.write_text("INT = 8")
    monkeypatch.setattr(graphs, "__file__", str(changed))
    first_logits(files, cache, "float32")
    assert len(kept(cache)) == 1 and first not in kept(cache)


def test_two_starts_at_once_keep_it_once(files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other start finishes while this one converts."""
    cache, convert = tmp_path / "cache", compiled.convert
    reads: list[Path] = []

    def convert_slowly(*arguments: Any, **named: Any) -> compiled.Converted:
        converted = convert(*arguments, **named)
        if not reads:
            reads.append(cache)
            compile_model(files, PRECISIONS["float32"], 2, cache)
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
