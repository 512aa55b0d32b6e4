"""tqdm with its bars locked between threads only.

By default tqdm also locks them between processes. Since Python 3.14 that starts a helper process for the lock's semaphore, which
prints a warning to stderr if the server ends right away.
"""

from __future__ import annotations

import threading

from tqdm import tqdm

__all__ = ["tqdm"]

tqdm.set_lock(threading.RLock())
