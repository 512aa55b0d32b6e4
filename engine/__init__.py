"""From token ids to pixels.

    ImageRequest ─> Engine.submit ─> Scheduler (who is in the batch) ─> Runner.encode (once a prompt)
        ─> 256 x (Runner.step ─> sample) ─> Runner.detokenize ─> events on the Job: Progress, Preview, ImageDone

Public: `Engine`, `load_runner`, and the dataclasses of `engine.request` and `engine.errors`. Import them from their modules;
this package imports none of them, so that `engine.errors` costs no torch.
"""

from __future__ import annotations

import sys

# At its import OpenVINO would report its use to its maker, from a process forked for that. Without this package it does not.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
