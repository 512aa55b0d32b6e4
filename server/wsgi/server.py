"""The waitress server that runs the app on a bound socket."""

from __future__ import annotations

import json
import logging
import socket
from contextlib import suppress
from typing import Any

from flask import Flask
from waitress import create_server
from waitress.task import ErrorTask

from consts import IDLE_CONNECTIONS, MAX_BODY_BYTES, MAX_BUFFERED_BYTES, MAX_RECEIVED_BYTES, OTHER_FILES
from server.api.error_bodies import error_body
from server.api.errors import BODY_TOO_LARGE
from server.middleware.cors import CORS_EXTENSION, CorsPolicy
from server.middleware.request_ids import begin_request, end_request
from server.wsgi.listener import allow_reuse
from server.wsgi.thread_limit import server_threads
from server.wsgi.waitress_internals import disconnect_stalled_readers, set_error_task

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

log = logging.getLogger("dalle.serving")


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """The answer to a request that is not HTTP, or far too large. Waitress would send plain text without CORS."""

    def execute(self) -> None:
        error = self.request.error
        path = getattr(self.request, "path", "")  # absent if not even the first line is HTTP
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
        log.info("a request that is not HTTP, or too large: %d %s", error.code, error.reason)
        end_request()
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


def build_server(app: Flask, listener: socket.socket, max_waiting: int = 0) -> Any:
    """Listen on a socket and return the waitress server, which serves while its loop runs.

    `max_waiting` requests can draw or wait for images at once, and others are still answered. Raises RuntimeError if the system
    allows too few threads.
    """
    threads = server_threads(max_waiting)
    allow_reuse(listener, True)  # for the next start: this server's connections may not be long closed by then
    server = create_server(
        app,
        sockets=[listener],
        threads=threads,
        connection_limit=_available_connections(threads + IDLE_CONNECTIONS),
        max_request_body_size=MAX_RECEIVED_BYTES,
        asyncore_use_poll=True,  # select() is limited to 1,024 files
        # Waitress puts larger ones into temporary files: a full disk would lose answers.
        inbuf_overflow=MAX_BODY_BYTES + 1,
        outbuf_overflow=MAX_BUFFERED_BYTES,
        # Read on while a request is in progress: otherwise a closed connection is not noticed (server/api/disconnects.py).
        channel_request_lookahead=1,
        # Send each piece of a stream when it is made. By default waitress gathers 18 kB first.
        send_bytes=1,
        # The app reads X-Forwarded-... only with --trust_proxy.
        clear_untrusted_proxy_headers=False,
        ident=None,
    )
    server.cors = app.extensions[CORS_EXTENSION]
    set_error_task(server, _JsonErrorTask)
    disconnect_stalled_readers(server)
    return server


def _available_connections(wanted: int) -> int:
    """Raise the limit of open files for `wanted` connections; return how many connections fit."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted + OTHER_FILES:
        return wanted
    files = wanted + OTHER_FILES if hard == resource.RLIM_INFINITY else min(wanted + OTHER_FILES, hard)
    with suppress(ValueError, OSError):  # macOS has a limit of its own beside the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES))
