"""From token ids to pixels.

    DrawingRequest ─> Engine.submit ─> Scheduler (which images are in the batch) ─> Runner.encode (once per prompt)
        ─> Runner.draw (until an image has its 256 tokens) ─> Runner.detokenize ─> events on the Job: Progress, Preview, ImageDone

What callers see    request, drawing (its handle), events, errors; interface (what `DalleModel` asks of an engine)
What draws          batching/ (the engine), runners/ (what computes), weights/ (a model's files)
Steps of it         text (prompt to tokens), sampler (logits to tokens), picture (grids of tokens)
Beside it           upstream/ (what is used of min-dalle), min_dalle (its own class), memory (is it exhausted?), progress (bars)

The public API is `Engine`, `load_runner`, and the classes in `engine.request`, `engine.events` and `engine.errors`. Import them
from their modules: this package imports none of them, so that `engine.errors` does not import torch.
"""

from __future__ import annotations

import sys

# On import, OpenVINO forks a process that reports its use to its maker. Without this package it does not.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
