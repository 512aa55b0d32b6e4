"""Where the recipe keeps its work, and where Tiny is delivered."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = Path(os.environ.get("DALLE_TRAINING_RUNS", ROOT / "training" / "runs"))
TINY = ROOT / "models" / "tiny"
