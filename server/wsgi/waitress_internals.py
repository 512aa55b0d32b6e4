"""What this project uses of waitress beyond its documented interface, all in one place.

`tests/server/wsgi/test_waitress_internals.py` fails if a new version of waitress changes any of it.
"""

from __future__ import annotations

import logging
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask, WSGITask

_TLS_HANDSHAKE = b"\x16"  # the first byte of a TLS connection

_log = logging.getLogger("dalle.serving")


class _Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """A request that the app answers. Without a Host header, which HTTP/1.0 allows, the server's name is the socket's address."""

    def get_environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = super().get_environment()
        if "HTTP_HOST" not in environment:
            address = self.channel.socket.getsockname()[0]
            environment["SERVER_NAME"] = f"[{address}]" if ":" in address else address
        return environment


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that closes at once if the client begins a TLS handshake; waitress would wait for the end of a header."""

    task_class = _Task

    def received(self, data: bytes) -> bool:
        if data.startswith(_TLS_HANDSHAKE) and self.request is None and not self.requests:
            _log.warning("%s speaks TLS on a plain HTTP port: use http://, or a proxy for https://", self.addr[0])
            self.handle_close()
            return False
        return bool(super().received(data))


def set_error_task(server: Any, task: type[ErrorTask]) -> None:
    """Make a server answer what it refuses itself with a task of this class."""
    server.channel_class = type("Channel", (_Channel,), {"error_task_class": task})


def run_once(server: Any, seconds: float) -> None:
    """Handle what is due on a server's sockets, after waiting for it for at most `seconds`: one round of `server.run()`."""
    wasyncore.loop(seconds, server.adj.asyncore_use_poll, server._map, count=1)


def wake(server: Any) -> None:
    """End the wait of `run_once`. Safe in a signal handler."""
    server.pull_trigger()


def stop(server: Any, seconds: float) -> None:
    """Stop a server's threads, waiting for them for at most `seconds`, and close its sockets."""
    server.task_dispatcher.shutdown(timeout=seconds)
    server.close()


def disconnect_stalled_readers(server: Any) -> None:
    """Make a server close connections that read nothing for `channel_timeout`, two minutes, although an answer waits for them.

    Waitress itself closes only connections that it can write to, and none with a request in progress: the thread of a stream
    would wait for ever.
    """
    close_idle = server.maintenance

    def maintain(now: float) -> None:
        close_idle(now)
        for channel in list(server.active_channels.values()):
            if channel.total_outbufs_len and channel.last_activity < now - server.adj.channel_timeout:
                channel.handle_close()

    server.maintenance = maintain


class AcceptedRequests:
    """The requests that a server has accepted by now and not answered yet."""

    def __init__(self, server: Any) -> None:
        self._requests = [(channel, request) for channel in server.active_channels.values() for request in list(channel.requests)]

    def __len__(self) -> int:
        """Return how many were not answered at the last look."""
        return len(self._requests)

    @property
    def are_unanswered(self) -> bool:
        """Whether any is still in progress, or its answer not sent completely."""
        self._requests = [
            (channel, request)
            for channel, request in self._requests
            if request in channel.requests or (channel.connected and channel.total_outbufs_len)
        ]
        return bool(self._requests)
