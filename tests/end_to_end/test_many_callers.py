"""The real server with many concurrent clients."""

from __future__ import annotations

import os
import select
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from tests.end_to_end.server_process import ServerProcess

PROMPTS = ["a red circle", "a small green star at the top", "two yellow hearts", "a blue square on a white background"]
CALLERS = 20


def draw(server: ServerProcess, **fields: Any) -> dict[str, Any]:
    answer = requests.post(f"{server.url}/dalle", json=fields, timeout=120)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def say_hello(server: ServerProcess) -> None:
    assert requests.get(f"{server.url}/", timeout=30).text == "hello world"


def test_hello_responds_while_images_are_drawn(server: ServerProcess) -> None:
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(draw, server, text="a red circle", num_images=10)
        for _ in range(5):
            say_hello(server)
        assert not drawing.done()
        assert len(drawing.result()["generatedImgs"]) == 10


def test_twenty_clients_at_once_get_the_same_images_as_one_by_one(server: ServerProcess) -> None:
    bodies = [
        {"text": PROMPTS[index % len(PROMPTS)], "seed": 100 * index, "num_images": 1 + index % 3} for index in range(CALLERS)
    ]
    with ThreadPoolExecutor(CALLERS) as pool:
        together = list(pool.map(lambda fields: draw(server, img_format="png", **fields), bodies))
    alone = [draw(server, img_format="png", **fields) for fields in bodies]
    assert together == alone


@pytest.mark.slow
@pytest.mark.skipif("--replicas" not in os.environ.get("SERVER_FLAGS", ""), reason="tests/faults/test_slow_callers.py has it")
def test_two_hundred_waiting_clients_do_not_delay_hello() -> None:
    body = b'{"text": "a red circle", "num_images": 10}'
    request = b"POST /dalle HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with ServerProcess("--log_level", "warning", "--max_queue", "2000") as own, ExitStack() as stack:
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", own.port), timeout=30)) for _ in range(200)]
        for caller in waiting:
            caller.sendall(request)
        for _ in range(10):
            say_hello(own)
        answered, _, _ = select.select(waiting, [], [], 0)
        assert len(answered) < 100  # most are still waiting
