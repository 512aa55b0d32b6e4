"""Which replicas run, as Ray Serve tells the router in this process.

Apart from router.py, because Ray copies that module's code by value: its own variables would be others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

_OnChange = Callable[[Collection[str]], None]


class Membership:
    """The names of the replicas that run, and who is told of changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: frozenset[str] = frozenset()
        self._listeners: list[_OnChange] = []

    def update(self, names: Collection[str]) -> None:
        """Set the names, and tell the listeners if they have changed."""
        with self._lock:
            has_changed, self._names = self._names != frozenset(names), frozenset(names)
            listeners = list(self._listeners) if has_changed else []
        for listener in listeners:
            listener(names)

    def watch(self, on_change: _OnChange) -> None:
        """Call a listener now and at each change."""
        with self._lock:
            self._listeners.append(on_change)
            names = self._names
        on_change(names)


MEMBERSHIP = Membership()
