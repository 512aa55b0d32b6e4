"""tqdm, its bars locked between threads only.

By default it locks them between processes too. From Python 3.14 on, that starts a process to watch over the lock's semaphore,
which complains on stderr when the server ends at once.
"""

from __future__ import annotations

import threading

from tqdm import tqdm

__all__ = ["tqdm"]

tqdm.set_lock(threading.RLock())
