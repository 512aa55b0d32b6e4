"""Whether a GPU is ruled out without torch: never where torch finds one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from host import gpus
from host.gpus import may_have_gpu


def test_a_gpu_that_torch_finds_is_not_ruled_out() -> None:
    assert may_have_gpu() or not torch.cuda.is_available()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no driver is looked for")
def test_a_driver_of_nvidias_or_amds_leaves_the_decision_to_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_ROCM", tmp_path / "kfd")
    monkeypatch.setattr(gpus, "_CUDA", "libcuda_that_is_not_installed.so.1")
    assert not may_have_gpu()
    (tmp_path / "kfd").touch()
    assert may_have_gpu()
    (tmp_path / "kfd").unlink()
    monkeypatch.setattr(gpus, "_CUDA", "libc.so.6")  # stands for an installed driver, which is loaded but not called
    assert may_have_gpu()


@pytest.mark.parametrize(("platform", "expected"), [("darwin", False), ("win32", True)])
def test_macs_have_none_that_auto_takes_and_windows_may(platform: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert may_have_gpu() is expected
