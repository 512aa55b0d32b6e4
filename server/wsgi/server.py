"""Serve the app with waitress, on a socket that was taken before the weights were loaded."""

from __future__ import annotations

import json
import logging
import socket
from contextlib import suppress
from typing import Any

from flask import Flask
from waitress import create_server
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from consts import (
    IDLE_CONNECTIONS,
    MAX_BODY_BYTES,
    MAX_BUFFERED_BYTES,
    MAX_RECEIVED_BYTES,
    OTHER_FILES,
)
from server.api.error_bodies import error_body
from server.api.errors import BODY_TOO_LARGE
from server.middleware.cors import CORS_EXTENSION, CorsPolicy
from server.middleware.request_ids import begin_request, end_request
from server.wsgi.listener import allow_reuse
from server.wsgi.thread_limit import server_threads

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

log = logging.getLogger("dalle.serving")


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """Answer what is no HTTP, or far too large, as every other error is: waitress would send plain text without CORS."""

    def execute(self) -> None:
        error = self.request.error
        path = getattr(self.request, "path", "")  # absent where not even the first line is HTTP
        # Waitress's own 413 names a limit that is only waitress's.
        said = BODY_TOO_LARGE if error.code == 413 else f"{error.reason}: {error.body}"
        body = json.dumps(error_body(path, error.code, said)).encode()
        self.status = f"{error.code} {error.reason}"
        cors: CorsPolicy = self.channel.server.cors
        self.response_headers += [
            ("Content-Type", "application/json"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Request-Id", begin_request()),
            *cors.headers(self.request.headers.get("ORIGIN")),
        ]
        log.info("a request that is no HTTP, or too large: %d %s", error.code, error.reason)
        end_request()
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    error_task_class = _JsonErrorTask


def build_server(app: Flask, listener: socket.socket, most_waiting: int = 0) -> Any:
    """Start listening, and build the waitress server whose `run()` serves until the process is told to stop.

    `most_waiting` callers can be drawn for or wait at once, and others are answered all the same. Raises RuntimeError where the
    system allows too few threads.
    """
    threads = server_threads(most_waiting)
    allow_reuse(listener, True)  # the next server's start needs it of this one's connections
    server = create_server(
        app,
        sockets=[listener],
        threads=threads,
        connection_limit=_connections_to_be_had(threads + IDLE_CONNECTIONS),
        max_request_body_size=MAX_RECEIVED_BYTES,
        asyncore_use_poll=True,  # select() knows no more than 1,024 files
        # Waitress puts what is larger into temporary files: a full disk would lose answers.
        inbuf_overflow=MAX_BODY_BYTES + 1,
        outbuf_overflow=MAX_BUFFERED_BYTES,
        # Read on while a request is served: only so is a closed connection seen (server/api/disconnects.py).
        channel_request_lookahead=1,
        # Each piece of a stream goes out when it is made. By default waitress gathers 18 kB first.
        send_bytes=1,
        # The app looks at X-Forwarded-... only where --trust_proxy says that it may.
        clear_untrusted_proxy_headers=False,
        ident=None,
    )
    server.channel_class = _Channel
    server.cors = app.extensions[CORS_EXTENSION]
    _cut_off_who_stops_reading(server)
    return server


def _connections_to_be_had(wanted: int) -> int:
    """Have the system let this process open as many files; return how many connections it may then have."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted + OTHER_FILES:
        return wanted
    files = wanted + OTHER_FILES if hard == resource.RLIM_INFINITY else min(wanted + OTHER_FILES, hard)
    with suppress(ValueError, OSError):  # macOS has a limit of its own beside the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES))


def _cut_off_who_stops_reading(server: Any) -> None:
    """Close connections that have taken nothing of what waits for them for waitress's `channel_timeout`, two minutes.

    Waitress closes only those that it can write to, and none that a request runs on: a stream's thread would wait for ever.
    """
    close_idle = server.maintenance

    def maintain(now: float) -> None:
        close_idle(now)
        for channel in list(server.active_channels.values()):
            if channel.total_outbufs_len and channel.last_activity < now - server.adj.channel_timeout:
                channel.handle_close()

    server.maintenance = maintain
