"""The parts of waitress's internals that the server uses: a new version that changes one fails here, not under load."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response

from server.middleware.cors import CORS_EXTENSION, CorsPolicy
from server.wsgi.listener import take_port
from server.wsgi.server import build_server
from server.wsgi.waitress_internals import AcceptedRequests, run_once, stop, wake

REQUEST = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def may_answer() -> threading.Event:
    return threading.Event()


@pytest.fixture
def server(may_answer: threading.Event) -> Iterator[Any]:
    """Yield a server with one route, which waits for `may_answer`."""
    app = Flask("waiting")
    app.extensions[CORS_EXTENSION] = CorsPolicy(("*",))

    @app.get("/wait")
    def wait() -> Response:
        may_answer.wait(60)
        return Response("done")

    with take_port("127.0.0.1", 0) as listener:
        server = build_server(app, listener)
        yield server
        may_answer.set()
        stop(server, 5)


def run_until(server: Any, is_done: Any) -> None:
    for _ in range(600):
        if is_done():
            return
        run_once(server, 0.1)
    pytest.fail("waitress did not finish in a minute")


def test_an_accepted_request_is_unanswered_until_its_answer_is_sent(server: Any, may_answer: threading.Event) -> None:
    with socket.create_connection(server.socket.getsockname(), timeout=60) as client:
        client.sendall(REQUEST)
        run_until(server, lambda: len(AcceptedRequests(server)) == 1)
        accepted = AcceptedRequests(server)
        assert accepted.are_unanswered
        may_answer.set()
        run_until(server, lambda: not accepted.are_unanswered)
        assert client.recv(12) == b"HTTP/1.1 200"


def test_a_connection_without_a_request_does_not_count(server: Any) -> None:
    with socket.create_connection(server.socket.getsockname(), timeout=60):
        run_until(server, lambda: len(server.active_channels) == 1)
        assert not AcceptedRequests(server).are_unanswered


def test_a_client_that_goes_away_is_noticed_during_its_request(server: Any) -> None:
    with socket.create_connection(server.socket.getsockname(), timeout=60) as client:
        client.sendall(REQUEST)
        run_until(server, lambda: len(AcceptedRequests(server)) == 1)
        accepted = AcceptedRequests(server)
        [channel] = server.active_channels.values()
    run_until(server, lambda: not channel.connected)
    assert len(accepted) == 1


def test_waking_ends_a_round_of_the_loop(server: Any) -> None:
    threading.Timer(0.2, wake, [server]).start()
    run_once(server, 300)  # pytest's own time limit is shorter


def test_a_request_that_is_not_http_is_answered_by_our_task(server: Any) -> None:
    with socket.create_connection(server.socket.getsockname(), timeout=60) as client:
        client.sendall(b"GET\r\n\r\n")
        client.setblocking(False)
        received = bytearray()

        def is_answered() -> bool:
            with contextlib.suppress(BlockingIOError):
                received.extend(client.recv(4096))
            return b'{"error"' in received

        run_until(server, is_answered)
    assert received.startswith(b"HTTP/1.0 400") or received.startswith(b"HTTP/1.1 400")
    assert b"application/json" in received


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        ("server", ["_map", "active_channels", "channel_class", "maintenance", "pull_trigger", "task_dispatcher", "close"]),
        ("settings", ["asyncore_use_poll", "channel_timeout"]),
        ("channel", ["connected", "handle_close", "last_activity", "requests", "total_outbufs_len", "error_task_class"]),
    ],
)
def test_every_attribute_exists(server: Any, owner: str, names: list[str]) -> None:
    with socket.create_connection(server.socket.getsockname(), timeout=60):
        run_until(server, lambda: len(server.active_channels) == 1)
        [channel] = server.active_channels.values()
        thing = {"server": server, "settings": server.adj, "channel": channel}[owner]
        assert [name for name in names if not hasattr(thing, name)] == []
