"""From token ids to pixels.

    DrawingRequest ─> Engine.submit ─> Scheduler (which images are in the batch) ─> Runner.encode (once per prompt)
        ─> 256 x (Runner.step ─> sample) ─> Runner.detokenize ─> events on the Job: Progress, Preview, ImageDone

The public API is `Engine`, `load_runner`, and the classes in `engine.request`, `engine.events` and `engine.errors`. Import them
from their modules: this package imports none of them, so that `engine.errors` does not import torch.
"""

from __future__ import annotations

import sys

# On import, OpenVINO forks a process that reports its use to its maker. Without this package it does not.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
