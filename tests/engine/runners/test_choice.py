"""The choice of runner, precision and number of threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from engine.errors import CheckpointError, InvalidRequest
from engine.runners import default_cache, load_runner
from engine.runners.choice import choose_library
from engine.runners.cuda.support import missing_on
from engine.runners.openvino.precision import choose_precision
from engine.runners.torch.runner import TorchRunner, choose_device, choose_dtype
from engine.weights.checkpoint import find_model
from engine.weights.models import MODELS
from host.threads import usable_threads
from tests.engine.loading import load_logits_runner

CPU, CUDA = "cpu", "cuda"


@pytest.mark.parametrize(
    ("machine", "device", "asked", "expected"),
    [
        ("x86_64", CPU, "auto", "openvino"),
        ("AMD64", CPU, "auto", "openvino"),
        ("x86_64", CPU, "torch", "torch"),
        ("x86_64", CUDA, "auto", "torch" if missing_on(torch.device(CUDA)) else "cuda"),
        ("arm64", CPU, "auto", "native"),
        ("arm64", CPU, "native", "native"),
        ("arm64", CPU, "torch", "torch"),
    ],
)
def test_openvino_computes_on_x86_and_native_on_other_cpus(
    machine: str, device: str, asked: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert choose_library(asked, device) == expected


@pytest.mark.parametrize(("asked", "device"), [("openvino", CUDA), ("native", CUDA), ("cuda", CPU), ("tensorrt", CPU)])
def test_an_unavailable_runner_is_refused(asked: str, device: str) -> None:
    with pytest.raises(InvalidRequest, match="take") as refused:
        choose_library(asked, device)
    assert refused.value.field == "runner"


def test_torch_computes_if_it_is_chosen() -> None:
    before = torch.get_num_threads()
    try:
        files, runner = load_logits_runner("tiny", device="cpu", runner="torch", threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert isinstance(runner, TorchRunner)
    runner.admit([runner.encode([0, 5, 6, 2])])
    assert runner.step([files.config.decoder_start_token_id], [0]).std() > 0.5


def test_auto_is_int4_for_large_models() -> None:
    assert {name: choose_precision("auto", spec).name for name, spec in MODELS.items()} == {
        "tiny": "int8",
        "mini": "int4",
        "mega": "int4",
        "mega_full": "int4",
    }
    assert choose_precision("float32", MODELS["mini"]).decoder_weights == "float32"


@pytest.mark.parametrize(("runner", "precision"), [("auto", "float16"), ("torch", "int8"), ("torch", "float16")])
def test_a_precision_is_refused_before_weights_are_searched(runner: str, precision: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=precision):
        load_runner("mini", models_root=tmp_path, device="cpu", runner=runner, precision=precision)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an Apple GPU")
def test_mps_is_refused_where_there_is_no_apple_gpu() -> None:
    with pytest.raises(InvalidRequest, match="device 'mps' can't be used here: it needs a Mac with Apple silicon; try auto"):
        choose_device("mps")


def test_the_type_of_half_precision_is_the_devices() -> None:
    found = {device: choose_dtype("auto", torch.device(device), MODELS["mega"]) for device in ("cpu", "cuda", "mps")}
    assert found == {"cpu": torch.bfloat16, "cuda": torch.float16, "mps": torch.float16}


def test_float16_is_refused_on_a_cpu() -> None:
    with pytest.raises(InvalidRequest, match="float16"):
        choose_precision("float16", MODELS["tiny"])


@pytest.mark.parametrize(
    ("quota", "threads"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 4), ("rubbish", 4)]
)
def test_threads_keep_within_the_cgroups_quota(quota: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_threads(0, (tmp_path / "cpu.max", tmp_path / "none")) == threads


def test_threads_keep_within_the_quota_of_cgroup_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    quota = tmp_path / "cpu.cfs_quota_us"
    for value, threads in (("-1", 4), ("300000", 3)):
        quota.write_text(f"{value}\n")
        assert usable_threads(0, (tmp_path / "none", quota)) == threads
    assert usable_threads(7, (tmp_path / "none", quota)) == 7, "a number of threads that is given is used"


def test_compiled_models_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/dalle-server")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache().name == "dalle-server" and default_cache().parent != Path("/somewhere")


@pytest.mark.parametrize("model", ["tiny", "mini"])
def test_a_models_root_that_is_no_folder_is_told(tmp_path: Path, model: str) -> None:
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(CheckpointError, match=f"{name} is not a folder: choose another --models_root"):
            find_model(model, models_root=tmp_path / name, progress=False)


def test_a_folder_without_tiny_leaves_the_built_in_one_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_model("tiny", models_root=tmp_path, progress=False).config.name == "tiny"
    assert caplog.messages == [f"{tmp_path} has no folder tiny: using the built-in model"]
