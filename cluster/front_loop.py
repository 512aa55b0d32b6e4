"""The front's thread: an event loop on which all calls to replicas run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any


class FrontLoop:
    """A thread with an event loop. The methods may be called from any thread, `start` only from this one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cluster", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a function soon. Without effect once the loop is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def result(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop, and wait on another thread for what it returns or raises."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a coroutine as a task, which `stop` cancels."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run_aside(self, function: Callable[[], None]) -> None:
        """Run a function that blocks on another thread."""
        self._loop.run_in_executor(None, function)

    def stop(self, timeout: float | None = None) -> bool:
        """Cancel all tasks and end the thread. Return whether it ended in `timeout` seconds."""
        if self.is_alive:
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
            self._thread.join(timeout)
        return not self.is_alive

    async def _stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._loop.stop()
