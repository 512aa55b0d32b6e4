"""Loading a runner that computes logits."""

from __future__ import annotations

from typing import Any

from engine.runners import LogitsRunner, SamplingRunner, load_runner
from engine.weights.checkpoint import ModelFiles


def load_logits_runner(model: str, **options: Any) -> tuple[ModelFiles, LogitsRunner]:
    """Load a model with the runner that `load_runner` chooses, without what draws tokens from its logits."""
    files, runner = load_runner(model, **options)
    assert isinstance(runner, SamplingRunner)
    return files, runner.logits_runner
