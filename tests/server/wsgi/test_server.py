from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from flask import Flask, Response

from server.middleware.cors import CORS_EXTENSION, CorsPolicy
from server.wsgi.listener import address_of, is_loopback, take_port
from server.wsgi.server import build_server


def create_app_of_nothing() -> Flask:
    app = Flask("nothing")
    app.extensions[CORS_EXTENSION] = CorsPolicy(("*",))
    return app


def test_a_taken_port_refuses_connections_until_the_server_listens() -> None:
    with take_port("127.0.0.1", 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=5)


def test_a_busy_port_is_an_error() -> None:
    with take_port("127.0.0.1", 0) as listener:
        listener.listen()
        with pytest.raises(OSError, match="in use"):
            take_port("127.0.0.1", listener.getsockname()[1])


def test_a_port_is_busy_before_its_server_listens_and_free_after_it() -> None:
    with take_port("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            take_port("127.0.0.1", port)
        server = build_server(create_app_of_nothing(), listener)
        with socket.create_connection(("127.0.0.1", port), timeout=60), pytest.raises(OSError, match="in use"):
            take_port("127.0.0.1", port)
        server.task_dispatcher.shutdown()
        server.close()
    take_port("127.0.0.1", port).close()


@pytest.mark.parametrize("host", ["a..b", ".", "a" * 64])
def test_what_is_no_name_of_a_computer_is_an_error(host: str) -> None:
    with pytest.raises(OSError, match="invalid host name") if host != "." else pytest.raises(OSError):
        take_port(host, 0)


def test_there_are_threads_for_all_who_can_wait_and_some_more() -> None:
    for waiting, threads in ((96, 512), (2000, 2100)):
        with take_port("127.0.0.1", 0) as listener:
            server = build_server(create_app_of_nothing(), listener, waiting)
            assert server.adj.threads == threads < server.adj.connection_limit
            server.task_dispatcher.shutdown()
            server.close()


def test_who_stops_reading_a_stream_is_cut_off() -> None:
    app, ended = create_app_of_nothing(), threading.Event()

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


@pytest.mark.parametrize(
    ("host", "only_here"), [("127.0.0.1", True), ("127.8.9.1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_who_can_reach_it_is_told_by_what_is_bound(host: str, only_here: bool) -> None:
    with take_port(host, 0) as listener:
        assert is_loopback(listener) is only_here


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign requested address"):
        take_port("203.0.113.7", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_the_address_can_be_opened_from_this_machine(host: str) -> None:
    with take_port(host, 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
