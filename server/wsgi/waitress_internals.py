"""What this project uses of waitress beyond its documented interface, all in one place.

`tests/server/wsgi/test_waitress_internals.py` fails if a new version of waitress changes any of it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Any

from flask import Flask
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
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


class WaitressServer:
    """Waitress on one or more sockets, which share its loop, its threads and its limit of connections."""

    def __init__(self, app: Flask, listeners: Sequence[socket.socket], error_task: type[ErrorTask], **settings: Any) -> None:
        """Listen on bound sockets. What waitress refuses itself is answered by an `error_task`."""
        self._map: dict[int, Any] = {}  # what the loop watches: sockets, connections, and a pipe per socket to wake it
        create_server(app, map=self._map, sockets=list(listeners), **settings)
        self._servers = [watched for watched in self._map.values() if isinstance(watched, BaseWSGIServer)]
        self.settings = self._servers[0].adj
        self._dispatcher = self._servers[0].task_dispatcher
        for server in self._servers:
            server.channel_class = type("Channel", (_Channel,), {"error_task_class": error_task})
            self._disconnect_stalled_readers(server)

    @property
    def channels(self) -> list[Any]:
        """Every open connection."""
        return [channel for server in self._servers for channel in list(server.active_channels.values())]

    def limit_connections(self, most: int) -> None:
        """Accept no more than so many connections at once. Waitress counts everything that its loop watches."""
        self.settings.connection_limit = most + 2 * len(self._servers)

    def run_once(self, seconds: float) -> None:
        """Handle what is due on the sockets, after waiting for it for at most `seconds`."""
        wasyncore.loop(seconds, self.settings.asyncore_use_poll, self._map, count=1)

    def wake(self) -> None:
        """End the wait of `run_once`. Safe in a signal handler."""
        self._servers[0].pull_trigger()

    def stop(self, seconds: float) -> None:
        """Stop the threads, waiting for them for at most `seconds`, and close the sockets."""
        self._dispatcher.shutdown(timeout=seconds)
        for server in self._servers:
            server.close()

    def _disconnect_stalled_readers(self, server: BaseWSGIServer) -> None:
        """Close connections that read nothing for `channel_timeout`, two minutes, although an answer waits for them.

        Waitress itself closes only connections that it can write to, and none with a request in progress: the thread of a stream
        would wait for ever.
        """
        close_idle = server.maintenance

        def maintain(now: float) -> None:
            close_idle(now)
            for channel in list(server.active_channels.values()):
                if channel.total_outbufs_len and channel.last_activity < now - self.settings.channel_timeout:
                    channel.handle_close()

        server.maintenance = maintain


class AcceptedRequests:
    """The requests that a server has accepted by now and not answered yet."""

    def __init__(self, server: WaitressServer) -> None:
        self._requests = [(channel, request) for channel in server.channels for request in list(channel.requests)]

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
