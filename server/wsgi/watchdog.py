"""A watchdog that notices when only a restart helps: the engine is dead, or hangs."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dalle_model import DalleModel

log = logging.getLogger("dalle.watchdog")

# After --step_timeout /health/live fails, and after so many times as long again the process ends. The grace is generous because a
# step that is only slow, such as one that encodes 32 prompts with Mega on an old CPU, would be as slow after a restart.
HANG_GRACE = 4


class Watchdog:
    """A watch over a model's engine. Ask it every second or so."""

    def __init__(self, model: DalleModel, step_timeout: float) -> None:
        """The model's steps count as hanging after `step_timeout` seconds."""
        self._model, self._step_timeout = model, step_timeout
        self._hangs_since: float | None = None  # on the monotonic clock
        self._is_lost = False

    @property
    def is_engine_lost(self) -> bool:
        """Whether the engine is dead, or a step has hung for the whole grace period. Once true, it stays true."""
        if not self._is_lost:
            self._is_lost = self._has_hung_on() or not self._model.state.is_alive
        return self._is_lost

    def _has_hung_on(self) -> bool:
        seconds, now = self._model.state.seconds_in_step, time.monotonic()
        if seconds <= self._step_timeout:
            self._hangs_since = None
            return False
        # Counted from when the hang was first seen, not from the step's start: a paused process gets the whole grace too.
        self._hangs_since = now if self._hangs_since is None else self._hangs_since
        if now - self._hangs_since <= HANG_GRACE * self._step_timeout:
            return False
        log.critical("a step has been running for %.0f s: it hangs, and the process ends, to be started again", seconds)
        return True
