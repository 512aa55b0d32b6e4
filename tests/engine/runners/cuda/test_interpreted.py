"""The CUDA runner's kernels without a GPU, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
OPTIONS = ("-o", "addopts=", "--disable-plugin-autoload", "-p", "pytest_timeout", "--import-mode=importlib")  # quick to load


def test_the_cuda_runner_in_tritons_interpreter() -> None:
    """In a process of its own: Triton reads TRITON_INTERPRET when it is imported, and the tests of a GPU need it unset."""
    pytest.importorskip("triton", reason="Triton is not installed; it exists for Linux")
    tests = Path(__file__).with_name("interpreted.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *OPTIONS, str(tests)],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
