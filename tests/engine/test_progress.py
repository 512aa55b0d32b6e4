"""Progress bars."""

from __future__ import annotations

import threading

from engine.progress import tqdm


def test_bars_are_locked_between_threads_only() -> None:
    assert isinstance(tqdm.get_lock(), type(threading.RLock()))
