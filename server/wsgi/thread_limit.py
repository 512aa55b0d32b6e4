"""The threads that the server needs, and how many the system allows. They are tried, because a container hides some limits."""

from __future__ import annotations

import _thread
import os
import sys
import threading
from contextlib import suppress

from consts import SERVER_THREADS, SPARE_THREADS
from server.config.settings import Settings

# Threads beside the server's: the engine's, and the pools of OpenMP, torch and OpenVINO. 17 were seen on 2 cores.
_OTHER_THREADS = 32
_OTHER_THREADS_PER_CORE = 4
_RESERVE_BYTES = 64 * 2**20  # that threads can end with where memory is the limit
_END_SECONDS = 1.0  # in which a thread that was tried has ended


def server_threads(max_waiting: int) -> int:
    """Return how many threads serve requests, of which `max_waiting` wait for images at once and hold one each."""
    return max(SERVER_THREADS, max_waiting + SPARE_THREADS)


def startable_threads(wanted: int) -> int:
    """Start up to `wanted` threads and end them; return how many the system allowed."""
    end, ended, started = _thread.allocate_lock(), threading.Semaphore(0), 0

    def wait_for_end() -> None:
        with end:
            pass
        ended.release()

    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    reserve: list[bytearray] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # none runs, and takes memory, before the reserve is free
    with end:
        with suppress(RuntimeError, MemoryError):
            reserve.append(bytearray(_RESERVE_BYTES))
            while started < wanted:
                # Not `threading.Thread`, whose start waits until the thread runs: that takes a tenth of a second for hundreds.
                _thread.start_new_thread(wait_for_end, ())
                started += 1
        reserve.clear()
        sys.setswitchinterval(interval)
    for _ in range(started):
        # Where memory is the limit, the last threads may lack it even to say that they have ended, or what went wrong.
        if not ended.acquire(timeout=_END_SECONDS):
            break
    sys.unraisablehook = hook
    return started


def why_too_few_threads(settings: Settings, allowed: int | None = None) -> str | None:
    """Return one line with the flag and the remedy if the system allows too few threads, None if it allows enough.

    `allowed` is how many threads can be started; None tries it.
    """
    others = _OTHER_THREADS + _OTHER_THREADS_PER_CORE * max(settings.threads, os.cpu_count() or 1)
    needed = server_threads(settings.images_at_once + settings.max_queue) + others
    if allowed is None:
        allowed = startable_threads(needed)
    if allowed >= needed:
        return None
    longest_queue = allowed - others - SPARE_THREADS - settings.images_at_once
    is_short_enough_possible = longest_queue >= 0 and allowed >= SERVER_THREADS + others
    return (
        f"with --max_queue {settings.max_queue} the server needs {needed} threads, and the system allows {allowed}: "
        f"{f'set it to {longest_queue} at most, or ' if is_short_enough_possible else ''}raise the limit "
        "(ulimit -u; pids_limit of a container; TasksMax of a systemd unit)"
    )
