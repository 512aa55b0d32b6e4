"""Tests on a real GPU; elsewhere they are skipped, with what is missing as the reason."""

from __future__ import annotations

import pytest
import torch

from engine.runners.cuda.support import missing_on
from engine.runners.torch.runner import choose_device


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    missing = missing_on(choose_device("auto"))
    if missing is not None:
        pytest.skip(f"the CUDA runner can't compute here: {missing}")
    return torch.device("cuda")
