"""Loading where the CUDA runner can't compute: Triton finds no GPU here, or none that it may launch on a CPU's memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from engine.errors import InvalidRequest
from engine.request import SamplingSettings
from engine.runners import SamplingRunner
from engine.runners.cuda.support import DTYPES, choose_cuda_dtype, missing_on, unsupported_reason
from engine.runners.runner import Draw
from engine.runners.torch_loading import load_cuda
from engine.sampler import uniforms
from engine.weights.checkpoint import find_model
from engine.weights.models import MODELS
from tests.engine.runners.cuda.small_model import CPU

FIND = partial(find_model, "tiny", progress=False)


def test_a_runner_that_fails_its_proof_leaves_a_warning_and_torch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files, runner = load_cuda(FIND, CPU, torch.float32, 1, tmp_path, "auto")
    assert isinstance(runner, SamplingRunner)
    [message] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith("drawing with torch, as the faster cuda runner can't draw tiny here: ")
    runner.admit([runner.encode([0, 5, 6, 2])], [Draw(SamplingSettings(), uniforms(1))])
    assert 0 <= runner.draw(1).tokens[0, 0] < files.config.logit_count


def test_a_runner_that_was_asked_for_and_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"cuda can't draw tiny here: .*; take auto or torch") as refused:
        load_cuda(FIND, CPU, torch.float32, 1, tmp_path, "cuda")
    assert refused.value.field == "runner"


def test_what_is_missing_is_named() -> None:
    assert missing_on(CPU) == "it needs an NVIDIA GPU, and the device is cpu"
    if not torch.cuda.is_available():
        assert missing_on(torch.device("cuda")) == "torch sees no NVIDIA GPU"


def test_models_whose_heads_fit_are_supported() -> None:
    sizes = {name: spec.sizes or FIND().config for name, spec in MODELS.items()}
    assert {unsupported_reason(config) for config in sizes.values()} == {None}


def test_auto_is_float16_unless_a_model_was_chosen_for_float32() -> None:
    assert {name: choose_cuda_dtype("auto", spec) for name, spec in MODELS.items()} == {
        "tiny": torch.float16,
        "mini": torch.float16,
        "mega": torch.float16,
        "mega_full": torch.float32,
    }
    assert {name: choose_cuda_dtype(name, MODELS["mini"]) for name in DTYPES} == DTYPES
    with pytest.raises(InvalidRequest, match="cuda does not compute in 'int4'; take auto, float32, bfloat16, float16"):
        choose_cuda_dtype("int4", MODELS["mini"])
