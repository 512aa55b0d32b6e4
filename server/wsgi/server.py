"""The waitress server that runs the app on bound sockets."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Sequence

from flask import Flask
from waitress.task import ErrorTask

from consts import IDLE_CONNECTIONS, MAX_BODY_BYTES, MAX_BUFFERED_BYTES, MAX_RECEIVED_BYTES
from server.api.error_bodies import error_body
from server.api.errors import BODY_TOO_LARGE
from server.middleware.cors import CORS_EXTENSION, CorsPolicy
from server.middleware.request_ids import begin_request, end_request
from server.wsgi.file_limit import available_connections
from server.wsgi.listener import allow_reuse
from server.wsgi.thread_limit import server_threads
from server.wsgi.waitress_internals import WaitressServer

log = logging.getLogger("dalle.serving")


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """The answer to a request that is not HTTP, or far too large. Waitress would send plain text without CORS."""

    cors: CorsPolicy

    def execute(self) -> None:
        error = self.request.error
        path = getattr(self.request, "path", "")  # absent if not even the first line is HTTP
        # Waitress's own 413 names a limit that is only waitress's.
        said = BODY_TOO_LARGE if error.code == 413 else f"{error.reason}: {error.body}"
        body = json.dumps(error_body(path, error.code, said)).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [
            ("Content-Type", "application/json"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Request-Id", begin_request()),
            *self.cors.headers(self.request.headers.get("ORIGIN")),
        ]
        log.info("a request that is not HTTP, or too large: %d %s", error.code, error.reason)
        end_request()
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


def build_server(app: Flask, listeners: Sequence[socket.socket], max_waiting: int = 0) -> WaitressServer:
    """Listen on sockets and return the waitress server, which serves while its loop runs.

    `max_waiting` requests can draw or wait for images at once, and others are still answered. Raises OSError if a socket can't
    listen, RuntimeError if the system allows too few threads.
    """
    threads = server_threads(max_waiting)
    for listener in listeners:
        allow_reuse(listener, True)  # for the next start: this server's connections may not be long closed by then
    server = WaitressServer(
        app,
        listeners,
        type("JsonErrorTask", (_JsonErrorTask,), {"cors": app.extensions[CORS_EXTENSION]}),
        threads=threads,
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
    server.limit_connections(available_connections(threads + IDLE_CONNECTIONS))
    return server
