"""Serve the app with waitress, on a socket that was taken before the weights were loaded."""

from __future__ import annotations

import json
import logging
import os
import socket
from ipaddress import ip_address
from typing import Any

from flask import Flask
from waitress import create_server
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from consts import MAX_BODY_BYTES, MAX_BUFFERED_BYTES, MAX_RECEIVED_BYTES, SERVER_CONNECTIONS, SERVER_THREADS
from server.cors import CORS_EXTENSION, CorsPolicy
from server.error_shapes import error_body
from server.request_ids import begin_request, end_request

log = logging.getLogger("dalle.serving")


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """Answer what is no HTTP, or far too large, as every other error is: waitress would send plain text without CORS."""

    def execute(self) -> None:
        error = self.request.error
        path = getattr(self.request, "path", "")  # absent where not even the first line is HTTP
        body = json.dumps(error_body(path, error.code, f"{error.reason}: {error.body}")).encode()
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


def take_port(host: str, port: int) -> socket.socket:
    """Bind a socket to an address, without listening yet: callers are refused, not left hanging, until the model is loaded.

    Raises OSError where the address is in use, not this machine's, or not to be had by this user.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # IPv4 first: what connects to "localhost" tries it in any case.
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # Elsewhere the option lets two servers share a port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach what listens on a host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def address_of(listener: socket.socket) -> str:
    """Write the URL that a person on this machine can open."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def build_server(app: Flask, listener: socket.socket) -> Any:
    """Start listening, and build the waitress server whose `run()` serves until the process is told to stop."""
    server = create_server(
        app,
        sockets=[listener],
        threads=SERVER_THREADS,
        connection_limit=SERVER_CONNECTIONS,
        max_request_body_size=MAX_RECEIVED_BYTES,
        asyncore_use_poll=True,  # select() knows no more than 1,024 files
        # Waitress puts what is larger into temporary files: a full disk would lose answers.
        inbuf_overflow=MAX_BODY_BYTES + 1,
        outbuf_overflow=MAX_BUFFERED_BYTES,
        # Read on while a request is served: only so is a closed connection seen (server/disconnects.py).
        channel_request_lookahead=1,
        # Each piece of a stream goes out when it is made. By default waitress gathers 18 kB first.
        send_bytes=1,
        # The app looks at X-Forwarded-... only where --trust_proxy says that it may.
        clear_untrusted_proxy_headers=False,
        ident=None,
    )
    server.channel_class = _Channel
    server.cors = app.extensions[CORS_EXTENSION]
    return server
