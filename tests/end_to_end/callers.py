"""Callers of a running server: who wait, who go away, and what the server says of itself meanwhile."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import requests

from tests.end_to_end.server_process import ServerProcess

PATIENCE_SECONDS = 120
POLL_SECONDS = 0.02


def eventually(is_so: Callable[[], bool]) -> bool:
    """Wait until something is so; False where it is not after long."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def metric(server: ServerProcess, name: str) -> float:
    """Read a number at /metrics."""
    lines = requests.get(f"{server.url}/metrics", timeout=PATIENCE_SECONDS).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def eventually_shows(server: ServerProcess, **numbers: float) -> bool:
    """Wait until /metrics shows some numbers, named without their prefix."""
    return eventually(lambda: all(metric(server, f"dalle_{name}") == number for name, number in numbers.items()))


def health(server: ServerProcess, which: str) -> tuple[int, str]:
    """Ask for `live` or `ready`: the status, and the reason if there is one."""
    answer = requests.get(f"{server.url}/health/{which}", timeout=PATIENCE_SECONDS)
    return answer.status_code, answer.json().get("reason", "")


def post(server: ServerProcess, request_id: str | None = None, **fields: Any) -> requests.Response:
    """Ask for images."""
    headers = {"X-Request-Id": request_id}
    return requests.post(
        f"{server.url}/dalle", json={"text": "a red circle", **fields}, headers=headers, timeout=PATIENCE_SECONDS
    )


def draw(server: ServerProcess, **fields: Any) -> list[str]:
    """Ask for images and get them, as PNG in base64."""
    answer = post(server, img_format="png", **fields)
    assert answer.status_code == 200, answer.text
    images: list[str] = answer.json()["generatedImgs"]
    return images


def ask(server: ServerProcess, path: str = "/dalle", **fields: Any) -> socket.socket:
    """Ask for images and return the connection on which the answer will come; to close it is to go away."""
    body = json.dumps({"text": "a red circle", **fields}).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)
    connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body))
    return connection


def status_of(connection: socket.socket) -> int:
    """Wait for an answer's first line; give its status, and go away."""
    with connection, connection.makefile("rb") as received:
        return int(received.readline().split()[1])
