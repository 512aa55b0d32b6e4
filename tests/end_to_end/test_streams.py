"""Streams from the real server's socket: each event is sent as it happens."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator

import pytest

from tests.end_to_end.callers import ask
from tests.end_to_end.server_process import FaultyServer

OPENAI = "/v1/images/generations"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    with FaultyServer(tmp_path_factory.mktemp("faults"), "--max_batch_size", "1") as running:
        yield running


@pytest.fixture
def server(running: FaultyServer) -> Iterator[FaultyServer]:
    yield running
    running.heal()


def lines_of(received: Iterable[bytes], until: bytes) -> list[bytes]:
    """Read lines up to one that starts with `until`; fail on the connection's timeout."""
    lines = []
    for line in received:
        lines.append(line.strip())
        if line.startswith(until):
            return lines
    raise AssertionError(f"the stream ended without {until!r}: {lines}")


def test_events_are_sent_while_the_drawing_is_held(server: FaultyServer) -> None:
    server.fault("step hold")
    with ask(server, stream=True) as caller, caller.makefile("rb") as received:
        lines = lines_of(received, b"data: ")
        assert lines[0] == b"HTTP/1.1 200 OK"
        assert b"event: queued" in lines
        server.heal()
        lines_of(received, b"event: image")
        image = received.readline()
        assert json.loads(image.removeprefix(b"data: "))["format"] == "jpeg"
        lines_of(received, b"event: done")


@pytest.mark.parametrize("path", ["/dalle", OPENAI])
def test_a_waiting_stream_has_keepalives(server: FaultyServer, path: str) -> None:
    """On OpenAI's route only comments are sent, as clients take all events for images."""
    server.fault("step hold")
    fields = {"prompt": "a red circle", "stream": True}
    with ask(server), ask(server, path, **fields) as caller, caller.makefile("rb") as received:
        lines = lines_of(received, b": ka") + lines_of(received, b": ka")
        events = {line for line in lines if line.startswith(b"event: ")}
        assert events == ({b"event: queued"} if path == "/dalle" else set())


def test_a_far_too_large_body_is_refused_in_the_routes_format(server: FaultyServer) -> None:
    for path, keys in ((OPENAI, {"message", "type", "param", "code"}), ("/dalle", {"message", "field"})):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as caller, caller.makefile("rb") as received:
            caller.sendall(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n" % path.encode())
            head, _, body = received.read().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413")
            assert b"x-request-id: " in head.lower()
            assert set(json.loads(body)["error"]) == keys
