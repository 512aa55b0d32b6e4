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
from server.wsgi.waitress_internals import AcceptedRequests, WaitressServer

REQUEST = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def may_answer() -> threading.Event:
    return threading.Event()


@pytest.fixture
def listeners() -> list[socket.socket]:
    return take_port(["localhost"], 0)


@pytest.fixture
def server(listeners: list[socket.socket], may_answer: threading.Event) -> Iterator[WaitressServer]:
    """Yield a server with one route, which waits for `may_answer`."""
    app = Flask("waiting")
    app.extensions[CORS_EXTENSION] = CorsPolicy(("*",))

    @app.get("/wait")
    def wait() -> Response:
        may_answer.wait(60)
        return Response("done")

    server = build_server(app, listeners)
    yield server
    may_answer.set()
    server.stop(5)


@pytest.fixture
def client(listeners: list[socket.socket], server: WaitressServer) -> Iterator[socket.socket]:
    """Yield a connection to the last of the server's sockets."""
    with socket.create_connection(listeners[-1].getsockname()[:2], timeout=60) as connection:
        yield connection


def run_until(server: WaitressServer, is_done: Any) -> None:
    for _ in range(600):
        if is_done():
            return
        server.run_once(0.1)
    pytest.fail("waitress did not finish in a minute")


def test_an_accepted_request_is_unanswered_until_its_answer_is_sent(
    server: WaitressServer, client: socket.socket, may_answer: threading.Event
) -> None:
    client.sendall(REQUEST)
    run_until(server, lambda: len(AcceptedRequests(server)) == 1)
    accepted = AcceptedRequests(server)
    assert accepted.are_unanswered
    may_answer.set()
    run_until(server, lambda: not accepted.are_unanswered)
    assert client.recv(12) == b"HTTP/1.1 200"


@pytest.mark.usefixtures("client")
def test_a_connection_without_a_request_does_not_count(server: WaitressServer) -> None:
    run_until(server, lambda: len(server.channels) == 1)
    assert not AcceptedRequests(server).are_unanswered


def test_a_client_that_goes_away_is_noticed_during_its_request(server: WaitressServer, client: socket.socket) -> None:
    client.sendall(REQUEST)
    run_until(server, lambda: len(AcceptedRequests(server)) == 1)
    accepted = AcceptedRequests(server)
    [channel] = server.channels
    client.close()
    run_until(server, lambda: not channel.connected)
    assert len(accepted) == 1


def test_waking_ends_a_round_of_the_loop(server: WaitressServer) -> None:
    threading.Timer(0.2, server.wake).start()
    server.run_once(300)  # pytest's own time limit is shorter


def test_a_request_that_is_not_http_is_answered_by_our_task(server: WaitressServer, client: socket.socket) -> None:
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


def test_every_attribute_exists(server: WaitressServer, client: socket.socket) -> None:
    run_until(server, lambda: len(server.channels) == 1)
    [channel] = server.channels
    used = {
        server.settings: ["asyncore_use_poll", "channel_timeout", "connection_limit"],
        channel: ["connected", "handle_close", "last_activity", "requests", "total_outbufs_len", "error_task_class"],
        channel.server: ["active_channels", "channel_class", "maintenance", "pull_trigger", "task_dispatcher", "close"],
    }
    assert [name for owner, names in used.items() for name in names if not hasattr(owner, name)] == []
