"""The folders of the data, of training runs and of the exported model."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "training" / "data"
RUNS = Path(os.environ.get("DALLE_TRAINING_RUNS", ROOT / "training" / "runs"))
TINY = ROOT / "models" / "tiny"
