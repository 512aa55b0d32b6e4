"""Clients that disconnect at any moment: while sending, waiting, drawing, reading."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.end_to_end.callers import draw
from tests.end_to_end.server_process import ServerProcess
from tests.faults.calling import PROMPTS, connect, hang_up, metrics, metrics_when_idle, raw_post

MAX_GROWTH = 1.05
MOMENTS = ["while sending", "soon", "later", "at the first byte"]


def request_and_disconnect(server: ServerProcess, seed: int) -> None:
    """Send a request, and disconnect at a moment chosen by the seed."""
    chance = random.Random(seed)
    moment = chance.choice(MOMENTS)
    request = raw_post(text=chance.choice(PROMPTS), num_images=chance.randint(1, 4), stream=chance.random() < 0.5, seed=seed)
    connection = connect(server)
    if moment == "while sending":
        connection.sendall(request[: chance.randrange(len(request))])
    else:
        connection.sendall(request)
    if moment == "at the first byte":
        connection.recv(1)
    else:
        time.sleep(chance.random() * (0.05 if moment == "soon" else 1.0))  # any moment will do
    hang_up(connection)


@pytest.mark.parametrize("callers", [40, pytest.param(200, marks=pytest.mark.soak)])
def test_disconnected_clients_leave_nothing_behind(server: ServerProcess, callers: int) -> None:
    wanted = draw(server, text="a red circle", seed=1)
    memory = 0.0
    for round_number in range(2):  # the first round allocates what is allocated once, such as threads' stacks
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda seed: request_and_disconnect(server, seed), range(callers)))
        found = metrics_when_idle(server)
        memory, before = found["process_resident_memory_bytes"], memory
        assert round_number == 0 or memory < MAX_GROWTH * before
    assert found["dalle_images_cancelled_total"] > 0
    assert draw(server, text="a red circle", seed=1) == wanted
    assert metrics(server)["dalle_images_failed_total"] == 0
    print(f"\n2 x {callers} clients disconnected: slots in use 0, memory {memory / before - 1:+.1%}")
