"""Clients that misbehave, and the server's metrics; tests/end_to_end/callers.py has the well-behaved ones."""

from __future__ import annotations

import base64
import json
import socket
import struct
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.callers import TIMEOUT_SECONDS, eventually_shows
from tests.end_to_end.server_process import ServerProcess

PROMPTS = ["a red circle", "a small green star at the top", "two yellow hearts", "a blue square on a white background"]


def metrics(server: ServerProcess) -> dict[str, float]:
    """Return the server's metrics that have no labels."""
    families = text_string_to_metric_families(requests.get(f"{server.url}/metrics", timeout=TIMEOUT_SECONDS).text)
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def metrics_when_idle(server: ServerProcess) -> dict[str, float]:
    """Wait until no image waits or is drawn, and return the metrics."""
    assert eventually_shows(server, slots_in_use=0, queue_images=0)
    return metrics(server)


def images_in(answer: requests.Response) -> list[bytes]:
    """Return the images in a response, decoded."""
    return [base64.b64decode(image) for image in answer.json()["generatedImgs"]]


def raw_post(path: str = "/dalle", **fields: Any) -> bytes:
    """Return a request for a raw socket."""
    body = json.dumps(fields).encode()
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


def connect(server: ServerProcess, receive_buffer: int | None = None) -> socket.socket:
    """Open a raw connection; with a small receive buffer, the server must buffer what the client does not read."""
    connection = socket.socket()
    connection.settimeout(TIMEOUT_SECONDS)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(("127.0.0.1", server.port))
    return connection


def hang_up(connection: socket.socket) -> None:
    """Close the connection with a reset, as a killed process does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
