"""Clients of a running server: requests, disconnects, and the server's health and metrics."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import requests

from tests.end_to_end.server_process import ServerProcess

TIMEOUT_SECONDS = 120
POLL_SECONDS = 0.02


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait until a condition is true; return False on a timeout."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def metric(server: ServerProcess, name: str) -> float:
    """Return a value from /metrics."""
    lines = requests.get(f"{server.url}/metrics", timeout=TIMEOUT_SECONDS).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def eventually_shows(server: ServerProcess, **numbers: float) -> bool:
    """Wait until /metrics has these values, named without their prefix."""
    return eventually(lambda: all(metric(server, f"dalle_{name}") == number for name, number in numbers.items()))


def health(server: ServerProcess, which: str) -> tuple[int, str]:
    """Request `live` or `ready`; return the status, and the reason if there is one."""
    answer = requests.get(f"{server.url}/health/{which}", timeout=TIMEOUT_SECONDS)
    return answer.status_code, answer.json().get("reason", "")


def post(server: ServerProcess, request_id: str | None = None, **fields: Any) -> requests.Response:
    """Request images."""
    headers = {"X-Request-Id": request_id}
    return requests.post(f"{server.url}/dalle", json={"text": "a red circle", **fields}, headers=headers, timeout=TIMEOUT_SECONDS)


def draw(server: ServerProcess, **fields: Any) -> list[str]:
    """Request images, and return them as PNG in base64."""
    answer = post(server, img_format="png", **fields)
    assert answer.status_code == 200, answer.text
    images: list[str] = answer.json()["generatedImgs"]
    return images


def ask(server: ServerProcess, path: str = "/dalle", **fields: Any) -> socket.socket:
    """Request images, and return the connection without waiting for the response; closing it disconnects the client."""
    body = json.dumps({"text": "a red circle", **fields}).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_SECONDS)
    connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body))
    return connection


def status_of(connection: socket.socket) -> int:
    """Wait for the first line of a response, return its status, and disconnect."""
    with connection, connection.makefile("rb") as received:
        return int(received.readline().split()[1])
