"""What a start that was cut short has left in the cache."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

PREFIX = ".unfinished-"
_ABANDONED_SECONDS = 3600.0  # nothing is written for as long


def sweep_unfinished(folder: Path) -> None:
    """Remove half-written folders that are so old that nobody writes to them any more."""
    for left in folder.glob(f"{PREFIX}*"):
        try:
            is_abandoned = time.time() - left.stat().st_mtime > _ABANDONED_SECONDS
        except OSError:  # finished, or swept by another start
            continue
        if is_abandoned:
            shutil.rmtree(left, ignore_errors=True)
