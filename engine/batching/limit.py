"""How many images are drawn at once: fewer after memory ran out, more again after many good steps."""

from __future__ import annotations

PATIENCE = 2048  # steps: the time of eight images drawn one after the other
MAX_PATIENCE = 64 * PATIENCE


class AdaptiveLimit:
    """A limit that halves when memory runs out, and doubles after many good steps: twice as many if that failed before."""

    def __init__(self, maximum: int) -> None:
        self.value = maximum
        self._maximum = maximum
        self._patience = PATIENCE
        self._good_steps = 0
        self._was_raised = False

    def halve(self, count: int) -> None:
        """Lower the limit to half of `count`, which exhausted memory."""
        if self._was_raised:
            self._patience = min(2 * self._patience, MAX_PATIENCE)
            self._was_raised = False
        self.value = max(1, count // 2)
        self._good_steps = 0

    def count_steps(self, count: int) -> bool:
        """Count steps that did not fail. Return whether they raised the limit."""
        if self.value == self._maximum:
            return False
        self._good_steps += count
        if self._good_steps < self._patience:
            return False
        self.value = min(2 * self.value, self._maximum)
        self._good_steps = 0
        self._was_raised = True
        return True
