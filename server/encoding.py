"""Take turns at encoding pictures: more at once than there are cores would only take memory, 17 MB for each large one."""

from __future__ import annotations

import os
import threading

ENCODING_TURNS = threading.BoundedSemaphore(os.cpu_count() or 1)
