"""Serve until the process is told to stop, or the engine dies or hangs; then finish what was accepted.

signal ─> not ready, no new work ─> accepted requests are answered, for --drain_timeout at most ─> the engine stops, who still
waits is told so ─> the end. A second signal ends the process at once.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

from waitress import wasyncore

from server.wsgi.watchdog import Watchdog

if TYPE_CHECKING:
    from dalle_model import DalleModel

log = logging.getLogger("dalle.shutdown")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TURN_SECONDS = 1.0  # the longest that a lost engine goes unnoticed
# How long the engine may take to stop, and again those who are told that it did to be told: a step of the largest model on a
# slow machine fits in.
_GRACE_SECONDS = 5.0


class Serving:
    """Run a waitress server on the main thread, turn by turn, so that it still answers while it stops."""

    def __init__(self, server: Any, model: DalleModel, step_timeout: float) -> None:
        """Take a server and its model, whose steps are taken to hang after `step_timeout` seconds."""
        self._server, self._model = server, model
        self._watchdog = Watchdog(model, step_timeout)
        self._is_told_to_stop = False

    def run(self, drain_timeout: float) -> bool:
        """Serve; tell whether the end was asked for and in order: False where the engine died, or hangs."""
        for number in _SIGNALS:
            signal.signal(number, self._stop)
        self._turn_while(lambda: not self._is_told_to_stop and not self._watchdog.is_engine_lost)
        was_alive = not self._watchdog.is_engine_lost
        self._model.drain()
        accepted = _Accepted(self._server.active_channels.values())
        if was_alive:
            log.info(
                "stopping: %d requests are answered first, for %d s at most; another signal ends it now",
                len(accepted),
                drain_timeout,
            )
        self._turn_while(lambda: accepted.are_unanswered and not self._watchdog.is_engine_lost, drain_timeout)
        has_stopped = self._model.close(_GRACE_SECONDS)
        self._turn_while(lambda: accepted.are_unanswered, _GRACE_SECONDS)
        self._server.task_dispatcher.shutdown(timeout=_GRACE_SECONDS)
        self._server.close()
        return was_alive and has_stopped

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_told_to_stop = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._server.pull_trigger()  # ends the turn

    def _turn_while(self, is_wanted: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Do what waitress's own `run()` does, for as long as it is wanted."""
        end = time.monotonic() + seconds
        while is_wanted() and (left := end - time.monotonic()) > 0:
            wasyncore.loop(min(left, _TURN_SECONDS), self._server.adj.asyncore_use_poll, self._server._map, count=1)


class _Accepted:
    """Hold the requests that were accepted by now, and know which are not answered yet."""

    def __init__(self, channels: Iterable[Any]) -> None:
        self._requests = [(channel, request) for channel in channels for request in list(channel.requests)]

    def __len__(self) -> int:
        """Return how many were not answered when somebody last looked."""
        return len(self._requests)

    @property
    def are_unanswered(self) -> bool:
        """Tell whether any is still served, or its answer not sent to the end."""
        self._requests = [
            (channel, request)
            for channel, request in self._requests
            if request in channel.requests or (channel.connected and channel.total_outbufs_len)
        ]
        return bool(self._requests)
