"""The server's main loop and its end: accepted requests are finished when the process is told to stop.

signal ─> not ready, new requests are refused ─> accepted requests are answered, for --drain_timeout at most ─> the engine stops,
requests that still wait get an error ─> the end. A second signal ends the process at once.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from server.wsgi.waitress_internals import AcceptedRequests, WaitressServer
from server.wsgi.watchdog import Watchdog

if TYPE_CHECKING:
    from dalle_model import DalleModel

log = logging.getLogger("dalle.shutdown")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ROUND_SECONDS = 1.0  # how soon a lost engine is noticed
# How long the engine may take to stop, and then again its waiting requests to be answered. A step of the largest model on a slow
# machine fits in.
_GRACE_SECONDS = 5.0


class MainLoop:
    """Waitress's loop on the main thread, round by round, so that the server still answers while it stops."""

    def __init__(self, server: WaitressServer, model: DalleModel, step_timeout: float) -> None:
        """The model's steps count as hanging after `step_timeout` seconds."""
        self._server, self._model = server, model
        self._watchdog = Watchdog(model, step_timeout)
        self._is_told_to_stop = False

    def run(self, drain_timeout: float) -> bool:
        """Serve until a signal. Return whether the end was requested and orderly: False if the engine died, or hangs."""
        for number in _SIGNALS:
            signal.signal(number, self._stop)
        self._run_while(lambda: not self._is_told_to_stop and not self._watchdog.is_engine_lost)
        was_alive = not self._watchdog.is_engine_lost
        self._model.drain()
        accepted = AcceptedRequests(self._server)
        if was_alive:
            log.info(
                "stopping: %d more to answer, for %d s at most; another signal ends the process now",
                len(accepted),
                drain_timeout,
            )
        self._run_while(lambda: accepted.are_unanswered and not self._watchdog.is_engine_lost, drain_timeout)
        has_stopped = self._model.close(_GRACE_SECONDS)
        self._run_while(lambda: accepted.are_unanswered, _GRACE_SECONDS)
        self._server.stop(_GRACE_SECONDS)
        return was_alive and has_stopped

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_told_to_stop = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._server.wake()

    def _run_while(self, is_wanted: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Run the loop while it is wanted, for `seconds` at most."""
        end = time.monotonic() + seconds
        while is_wanted() and (left := end - time.monotonic()) > 0:
            self._server.run_once(min(left, _ROUND_SECONDS))
