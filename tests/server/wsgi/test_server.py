from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from flask import Flask, Response

from server.middleware.cors import CORS_EXTENSION, CorsPolicy
from server.wsgi.listener import take_port
from server.wsgi.server import build_server


def create_empty_app() -> Flask:
    """Return an app without routes."""
    app = Flask("empty")
    app.extensions[CORS_EXTENSION] = CorsPolicy(("*",))
    return app


def test_a_taken_port_refuses_connections_until_the_server_listens() -> None:
    for listener in take_port(["localhost"], 0):
        with listener, pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname()[:2], timeout=5)


def test_a_port_is_in_use_from_binding_until_its_server_is_closed() -> None:
    [listener] = take_port(["127.0.0.1"], 0)
    port = listener.getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        take_port(["127.0.0.1"], port)
    server = build_server(create_empty_app(), [listener])
    with socket.create_connection(("127.0.0.1", port), timeout=60), pytest.raises(OSError, match="in use"):
        take_port(["127.0.0.1"], port)
    server.stop(60)
    [again] = take_port(["127.0.0.1"], port)
    again.close()


def test_there_are_threads_for_all_waiting_requests_and_more() -> None:
    for waiting, threads in ((96, 512), (2000, 2100)):
        server = build_server(create_empty_app(), take_port(["127.0.0.1"], 0), waiting)
        assert server.settings.threads == threads < server.settings.connection_limit
        server.stop(60)


def test_a_client_that_stops_reading_a_stream_is_disconnected() -> None:
    app, ended = create_empty_app(), threading.Event()

    @app.get("/stream")
    def stream() -> Response:
        def parts() -> Iterator[bytes]:
            try:
                while True:
                    yield bytes(2**20)
            finally:
                ended.set()

        return Response(parts())

    [listener] = take_port(["127.0.0.1"], 0)
    address = listener.getsockname()
    server = build_server(app, [listener])
    server.settings.channel_timeout = server.settings.cleanup_interval = 1
    with socket.create_connection(address, timeout=60) as reader:
        reader.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(600):
            server.run_once(0.1)
            if ended.is_set():
                break
        assert ended.is_set()
        assert reader.recv(12) == b"HTTP/1.1 200"
    server.stop(60)


def test_the_sockets_share_the_threads_and_the_limit_of_connections() -> None:
    listeners = take_port(["127.0.0.1", "127.0.0.2"], 0)
    addresses = [listener.getsockname() for listener in listeners]
    server = build_server(create_empty_app(), listeners)
    server.limit_connections(3)
    with ExitStack() as clients:
        for number in range(6):
            clients.enter_context(socket.create_connection(addresses[number % 2], timeout=60))
            server.run_once(0.1)
        assert len(server.channels) == 3
    server.stop(60)
