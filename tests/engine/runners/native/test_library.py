"""The compiled decoder: when it is compiled, for which instructions, and what decodes where it is not available."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from consts import INSTRUCTION_SET_VARIABLE
from engine.errors import InvalidRequest
from engine.runners import load_runner
from engine.runners.native import instructions, library
from engine.runners.native.instructions import missing_instructions, usable_sets
from engine.runners.native.library import NativeUnavailable, find_compiler, load_library
from engine.runners.native.runner import NativeRunner
from engine.runners.openvino.runner import OpenVinoRunner
from host.processor import processor_flags
from tests.cpu import needs_native
from tests.engine.loading import load_logits_runner

PROMPT = [0, 5, 6, 2]


@pytest.fixture
def unoptimized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile without optimization, in a sixth of the time, where a test is not about what is compiled."""
    monkeypatch.setattr(library, "_FLAGS", ["-O0" if flag == "-O2" else flag for flag in library._FLAGS])


@needs_native
@pytest.mark.usefixtures("unoptimized")
def test_it_is_compiled_once_and_older_versions_are_removed_and_again_once_it_is_damaged(tmp_path: Path) -> None:
    (tmp_path / f"decoder-{usable_sets()[0].name}-0000.so").write_text("of an older source")
    load_library(tmp_path)
    checksum, whole = sorted(tmp_path.iterdir())
    assert (checksum.suffix, whole.suffix) == (".sha256", ".so")
    before = whole.stat()
    load_library(tmp_path)
    assert (whole.stat().st_mtime_ns, whole.stat().st_ino) == (before.st_mtime_ns, before.st_ino)

    damaged = tmp_path / "damaged" / whole.name  # elsewhere: this process has loaded the whole one
    damaged.parent.mkdir()
    damaged.write_bytes(whole.read_bytes()[:1000])
    damaged.with_suffix(".sha256").write_text(whole.with_suffix(".sha256").read_text())
    load_library(damaged.parent)
    assert damaged.stat().st_size == whole.stat().st_size


@needs_native
def test_auto_takes_it_and_openvino_can_be_chosen() -> None:
    for chosen, kind in (("auto", NativeRunner), ("native", NativeRunner), ("openvino", OpenVinoRunner)):
        _, runner = load_logits_runner("tiny", device="cpu", runner=chosen, threads=1)
        assert isinstance(runner, kind)


@needs_native
@pytest.mark.usefixtures("unoptimized")
def test_without_a_usable_cache_folder_it_is_compiled_to_a_private_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("where the folder should be")
    with caplog.at_level(logging.WARNING):
        _, runner = load_logits_runner("tiny", device="cpu", threads=1, cache_dir=tmp_path / "file")
    assert isinstance(runner, NativeRunner)
    assert "choose another with --cache_dir" in caplog.text
    runner.admit([runner.encode(PROMPT)])
    assert runner.step([0], [0]).std() > 0.5


@needs_native
@pytest.mark.parametrize("trouble", ["no compiler", "a compiler that fails", "no AVX2"])
def test_where_it_is_not_available_openvino_decodes_and_the_log_says_why(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reason = {
        "no compiler": "there is no C compiler",
        "a compiler that fails": "false failed",
        "no AVX2": "lacks AVX2",
    }[trouble]
    if trouble == "no compiler":
        monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setattr(library, "find_spec", lambda name: None)
    elif trouble == "a compiler that fails":
        monkeypatch.setenv("CC", "false")
    else:
        monkeypatch.setattr(instructions, "cpu_capabilities", lambda: {"architecture": "x86_64", "fma3": True, "f16c": True})

    with caplog.at_level(logging.INFO):
        files, runner = load_logits_runner("tiny", device="cpu", threads=1, cache_dir=tmp_path)
    assert isinstance(runner, OpenVinoRunner) and reason in caplog.text
    runner.admit([runner.encode(PROMPT)])
    assert runner.step([files.config.decoder_start_token_id], [0]).std() > 0.5
    with pytest.raises(InvalidRequest, match=f"{reason}.*take auto, openvino or torch") as refused:
        load_runner("tiny", device="cpu", runner="native", threads=1, cache_dir=tmp_path)
    assert refused.value.field == "runner"


@pytest.mark.parametrize(
    "has, expected",
    [
        ({"avx2", "fma3", "f16c", "avx_vnni", "avx512_f", "avx512_bw", "avx512_vl", "avx512_dq"}, ["avxvnni", "avx2"]),
        ({"avx2", "fma3", "f16c"}, ["avx2"]),
        ({"avx2", "fma3"}, "F16C"),
        ({"architecture", "neon", "dot"}, ["neon"]),
        ({"neon"}, "x86's AVX2 or ARM's dot products"),
    ],
)
def test_instruction_sets_are_chosen_by_what_the_cpu_has(
    has: set[str], expected: list[str] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(INSTRUCTION_SET_VARIABLE, raising=False)
    architecture = "aarch64" if "neon" in has else "x86_64"
    monkeypatch.setattr(instructions, "cpu_capabilities", lambda: {**dict.fromkeys(has, True), "architecture": architecture})
    if isinstance(expected, str):
        assert missing_instructions() == expected
    else:
        assert missing_instructions() is None and [each.name for each in usable_sets()] == expected


@pytest.mark.skipif(not processor_flags(), reason="only Linux lists the CPU's instructions; elsewhere torch says them")
def test_linux_says_what_torch_does_of_the_cpu() -> None:
    theirs, found = torch.cpu.get_capabilities(), instructions.cpu_capabilities()
    assert found == {name: theirs.get(name, False) for name in found}
    assert len(found) > 8 and any(found[need] for each in instructions.INSTRUCTION_SETS for need in each.needs)


@needs_native
def test_a_compiler_without_output_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "true")
    with pytest.raises(NativeUnavailable):
        load_library(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_malformed_compiler_command_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc 'unbalanced")
    with pytest.raises(NativeUnavailable, match="CC is"):
        find_compiler()
