"""Whether the native decoder is compiled and used, what else is taken where it can't be, and what it refuses."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.reference import random_checkpoint
from engine.errors import InvalidRequest
from engine.request import IMAGE_TOKEN_COUNT
from engine.runners import Runner, default_cache, load_runner, runner_on
from engine.runners.native import layout, library
from engine.runners.native.decoder import KINDS
from engine.runners.native.layout import INT4, INT8, product, why_unfit
from engine.runners.native.library import NotToBeHad, find_compiler, load_library, missing_instructions
from engine.runners.native.runner import NativeRunner
from engine.runners.openvino.precision import PRECISIONS
from engine.runners.openvino.runner import OpenVinoRunner
from engine.runners.torch.runner import TorchRunner
from engine.weights.checkpoint import Checkpoint, load_checkpoint
from engine.weights.models import MODELS
from tests.cpu import needs_native


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint("tiny", progress=False)


@needs_native
def test_it_is_compiled_once_and_older_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "decode-0000.so").write_text("of an older source")
    load_library(tmp_path)
    kept = sorted(tmp_path.iterdir())
    assert [path.suffix for path in kept] == [".sha256", ".so"] and kept[1].stat().st_size > 10_000
    monkeypatch.setattr(library, "_compile", lambda _: pytest.fail("compiled again"))
    load_library(tmp_path)


@needs_native
def test_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    load_library(tmp_path / "whole")
    whole = next((tmp_path / "whole").glob("*.so"))
    damaged = tmp_path / whole.name
    damaged.write_bytes(whole.read_bytes()[:1000])
    damaged.with_suffix(".sha256").write_text(whole.with_suffix(".sha256").read_text())
    load_library(tmp_path)
    assert damaged.stat().st_size == whole.stat().st_size


@needs_native
def test_auto_takes_it_and_openvino_can_be_asked_for() -> None:
    for asked, kind in (("auto", NativeRunner), ("native", NativeRunner), ("openvino", OpenVinoRunner)):
        _, runner = load_runner("tiny", device="cpu", runner=asked, threads=1)
        assert isinstance(runner, kind)


@needs_native
@pytest.mark.parametrize("trouble", ["no compiler", "a compiler that fails", "no AVX-512", "a full disk"])
def test_where_it_cant_be_had_openvino_decodes_and_the_log_says_why(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = {
        "no compiler": "there is no C compiler",
        "a compiler that fails": "false failed",
        "no AVX-512": "lacks avx512_vnni",
        "a full disk": "can't be made or loaded",
    }[trouble]
    if trouble == "no compiler":
        monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
        monkeypatch.delenv("CC", raising=False)
    elif trouble == "a compiler that fails":
        monkeypatch.setenv("CC", "false")
    elif trouble == "no AVX-512":
        monkeypatch.setattr(library, "missing_instructions", lambda: ["avx512_vnni"])
    else:
        (tmp_path / "file").write_text("where the folder should be")
    cache = tmp_path / "file" if trouble == "a full disk" else tmp_path
    with caplog.at_level(logging.INFO):
        files, runner = load_runner("tiny", device="cpu", threads=1, cache_dir=cache)
    assert isinstance(runner, OpenVinoRunner) and said in caplog.text
    runner.admit([runner.encode([0, 5, 6, 2])])
    assert runner.step([files.config.decoder_start_token_id], [0]).std() > 0.5
    with pytest.raises(InvalidRequest, match=f"{said}.*take auto, openvino or torch") as refused:
        load_runner("tiny", device="cpu", runner="native", threads=1, cache_dir=cache)
    assert refused.value.field == "runner"


def test_instructions_are_read_from_the_cpus_list(tmp_path: Path) -> None:
    every = " ".join(library._NEEDED)
    listed = tmp_path / "cpuinfo"
    listed.write_text(f"processor : 0\nflags\t\t: fpu {every} sse\n")
    assert missing_instructions(listed) == []
    listed.write_text(f"flags\t\t: fpu {every.replace('avx512_vnni ', '')}\n")
    assert missing_instructions(listed) == ["avx512_vnni"]
    assert missing_instructions(tmp_path / "none") == ["AVX-512"]


def test_sizes_that_it_was_not_made_for_are_told(checkpoint: Checkpoint) -> None:
    sizes = checkpoint.config
    assert why_unfit(sizes) is None
    assert all(spec.sizes is None or why_unfit(spec.sizes) is None for spec in MODELS.values())
    assert "head" in str(why_unfit(replace(sizes, attention_head_count=8)))
    assert "widest" in str(why_unfit(replace(sizes, glu_embed_count=5000)))
    assert "333, is odd" in str(why_unfit(replace(sizes, glu_embed_count=333)))
    assert "300 tokens" in str(why_unfit(replace(sizes, text_token_count=300)))


def test_what_python_and_c_both_name_is_the_same() -> None:
    source = "".join(path.read_text() for path in Path(library.__file__).parent.glob("*.h"))
    defined = {name: int(value) for name, value in re.findall(r"#define (\w+) (\d+)\b", source)}
    assert (defined["LANES"], defined["LANES"] * defined["WIDE"]) == (layout.PANEL, layout.PIECE)
    assert defined["GROUP"] == layout.GROUP and defined["STRIDE"] >= layout.WIDEST
    assert defined["WIDEST_HEAD"] == layout.WIDEST_HEAD and defined["LONGEST"] == layout.LONGEST >= IMAGE_TOKEN_COUNT
    enums = [re.split(r",\s*", names) for names in re.findall(r"enum \{ (.*?) \};", source)]
    assert [getattr(layout, name) for name in next(names for names in enums if "INT8" in names)] == list(range(5))
    assert len(next(names for names in enums if "KINDS" in names)) - 1 == len(KINDS)


def test_a_packed_product_is_the_weight_rounded(checkpoint: Checkpoint) -> None:
    weight = checkpoint.decoder.layers[0].glu.fc2.weight
    exact = weight.detach().numpy()
    for kind, number, error in (("int8", INT8, 0.01), ("int4", INT4, 0.1)):
        about, packed, scales, zeros = product(weight, kind)  # type: ignore[arg-type]
        _, inputs, outputs, groups = about
        assert about[0] == number and inputs == 128 * groups >= exact.shape[1] and outputs == exact.shape[0]
        if kind == "int8":
            ours = (packed.transpose(0, 2, 1, 3).reshape(-1, inputs).astype(float) - 128) * scales
        else:
            both = np.stack([packed & 15, packed >> 4], axis=2)  # [panels, eights, 2, 16, 4]
            whole = both.transpose(0, 3, 1, 2, 4).reshape(len(both), 16, groups, 128)
            ours = ((whole - zeros.transpose(0, 2, 1)[..., None].astype(float)) * scales.transpose(0, 2, 1)[..., None]).reshape(
                -1, inputs
            )
        off = np.abs(ours[:outputs, : exact.shape[1]] - exact).max()
        assert 0 < off < error * np.abs(exact).max()


@needs_native
def test_memory_that_is_exhausted_is_told_and_the_decoder_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    files, runner = load_runner("tiny", device="cpu", runner="native", threads=2)
    assert isinstance(runner, NativeRunner)
    start = files.config.decoder_start_token_id
    runner.admit([runner.encode([0, 5, 6, 2])])
    before = runner.step([start], [0]).copy()
    decoder = runner.decoder
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "_library", type("Exhausted", (), {"decode_step": staticmethod(lambda *_: 1)}))
        with pytest.raises(MemoryError):
            runner.step([start], [0])
    assert np.array_equal(runner.step([start], [0]), before)


@needs_native
def test_a_library_that_is_not_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "true")  # succeeds, and makes nothing
    with pytest.raises(NotToBeHad):
        load_library(tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_native
@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_a_row_is_the_same_to_the_bit_among_any_number(checkpoint: Checkpoint, precision: str) -> None:
    """Each number of rows has code of its own, up to 18; more are computed in several goes."""
    runner = runner_on(checkpoint, PRECISIONS[precision], 1, default_cache(), runner="native")
    prompt, other = runner.encode([0, 5, 6, 2]), runner.encode([0, 7, 2])
    start = checkpoint.config.decoder_start_token_id
    runner.admit([prompt])
    alone = [runner.step([token], [position])[0].copy() for position, token in enumerate((start, 3, 11))]
    for count in range(2, 21):  # images: two rows each
        runner.reset()
        runner.admit([other] * (count - 1) + [prompt])
        for position, token in enumerate((start, 3, 11)):
            others = [start if position == 0 else token + image for image in range(1, count)]
            assert np.array_equal(runner.step([*others, token], [position] * count)[-1], alone[position]), count
    with pytest.raises(ValueError):
        runner.step([], [])


def test_a_compiler_that_is_no_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc 'unbalanced")
    with pytest.raises(NotToBeHad, match="CC is"):
        find_compiler()


@needs_native
@pytest.mark.parametrize("heads", [1, 2])
def test_wide_heads_attend_too(checkpoint: Checkpoint, heads: int) -> None:
    """Heads of 48 and 128 numbers: Tiny's have 32, Mini's 64, and four registers' worth are summed together."""
    sizes = replace(checkpoint.config, embed_count=128 if heads == 1 else 96, attention_head_count=heads, glu_embed_count=96)
    wide = replace(random_checkpoint(sizes, checkpoint.tokenizer), detokenizer=checkpoint.detokenizer)  # a small one
    tokens = [sizes.decoder_start_token_id, *range(100, 139)]

    def logits(runner: Runner) -> NDArray[Any]:
        runner.admit([runner.encode([0, 5, 6, 2])])
        return np.stack([runner.step([token], [position])[0].copy() for position, token in enumerate(tokens)])

    exact = logits(TorchRunner(wide, torch.device("cpu")))
    for precision, most in (("float32", 1e-5), ("bfloat16", 0.02), ("int4", 0.1)):
        error = logits(runner_on(wide, PRECISIONS[precision], 2, default_cache(), runner="native")) - exact
        assert error.std() < most * exact.std(), precision
