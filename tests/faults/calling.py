"""Call a server as many callers at once do, and read its numbers."""

from __future__ import annotations

import base64
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.server_process import ServerProcess

PATIENCE_SECONDS = 240.0  # a hang fails; a slow machine doesn't
PROMPTS = ["a red circle", "a small green star at the top", "two yellow hearts", "a blue square on a white background"]


def eventually(is_so: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Look until something is so; fail where it never comes."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not so in {seconds:.0f} s"
        time.sleep(0.002)


def numbers(server: ServerProcess) -> dict[str, float]:
    """Read the server's metrics; one with labels by all its samples' sum."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(requests.get(f"{server.url}/metrics", timeout=PATIENCE_SECONDS).text):
        for sample in family.samples:
            found[sample.name] += sample.value  # type: ignore[assignment]  # floats add up as well
    return dict(found)


def is_idle(server: ServerProcess) -> bool:
    """Tell whether nothing waits or is drawn."""
    found = numbers(server)
    return found["dalle_slots_in_use"] == 0 and found["dalle_queue_images"] == 0


def wait_until_idle(server: ServerProcess) -> dict[str, float]:
    """Wait until nothing waits or is drawn; give the numbers then."""
    eventually(lambda: is_idle(server), "slots in use and queue at 0")
    return numbers(server)


def post(server: ServerProcess, **fields: Any) -> requests.Response:
    """Ask for a drawing, once: no retries."""
    return requests.post(f"{server.url}/dalle", json=fields, timeout=PATIENCE_SECONDS)


def draw(server: ServerProcess, **fields: Any) -> list[bytes]:
    """Ask for a drawing that is to succeed; give its PNG files."""
    answer = post(server, img_format="png", **fields)
    assert answer.status_code == 200, answer.text
    return pictures(answer)


def pictures(answer: requests.Response) -> list[bytes]:
    """Decode the pictures in an answer."""
    return [base64.b64decode(image) for image in answer.json()["generatedImgs"]]


def raw_post(path: str = "/dalle", **fields: Any) -> bytes:
    """Write a request for a raw socket."""
    body = json.dumps(fields).encode()
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


def connect(server: ServerProcess, receive_buffer: int | None = None) -> socket.socket:
    """Open a raw connection; with a small buffer, what isn't read is the server's to keep."""
    connection = socket.socket()
    connection.settimeout(PATIENCE_SECONDS)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(("127.0.0.1", server.port))
    return connection


def hang_up(connection: socket.socket) -> None:
    """Close with a reset, as a process that is killed does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
