from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from flask import Flask, Response

from server.middleware.cors import CORS_EXTENSION, CorsPolicy
from server.wsgi.listener import address_of, take_port
from server.wsgi.server import build_server


def create_empty_app() -> Flask:
    """Return an app without routes."""
    app = Flask("empty")
    app.extensions[CORS_EXTENSION] = CorsPolicy(("*",))
    return app


def test_a_taken_port_refuses_connections_until_the_server_listens() -> None:
    with take_port("127.0.0.1", 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=5)


def test_a_port_is_in_use_from_binding_until_its_server_is_closed() -> None:
    with take_port("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            take_port("127.0.0.1", port)
        server = build_server(create_empty_app(), listener)
        with socket.create_connection(("127.0.0.1", port), timeout=60), pytest.raises(OSError, match="in use"):
            take_port("127.0.0.1", port)
        server.task_dispatcher.shutdown()
        server.close()
    take_port("127.0.0.1", port).close()


@pytest.mark.parametrize(
    ("host", "message"),
    [("a..b", "invalid host name"), ("a" * 64, "invalid host name"), (".", "."), ("203.0.113.7", "assign requested address")],
)
def test_an_invalid_host_or_another_machines_address_is_an_error(host: str, message: str) -> None:
    with pytest.raises(OSError, match=message):
        take_port(host, 0)


def test_there_are_threads_for_all_waiting_requests_and_more() -> None:
    for waiting, threads in ((96, 512), (2000, 2100)):
        with take_port("127.0.0.1", 0) as listener:
            server = build_server(create_empty_app(), listener, waiting)
            assert server.adj.threads == threads < server.adj.connection_limit
            server.task_dispatcher.shutdown()
            server.close()


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

    with take_port("127.0.0.1", 0) as listener:
        server = build_server(app, listener)
        server.adj.channel_timeout = server.adj.cleanup_interval = 1
        server.next_channel_cleanup = 0
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        with socket.create_connection(listener.getsockname(), timeout=60) as reader:
            reader.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert reader.recv(12) == b"HTTP/1.1 200"
            assert ended.wait(60)
        server.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_the_url_can_be_opened_on_this_machine(host: str) -> None:
    with take_port(host, 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
