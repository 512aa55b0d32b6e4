"""Go away at any moment: while sending, waiting, being drawn for, reading."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.end_to_end.callers import draw
from tests.end_to_end.server_process import ServerProcess
from tests.faults.calling import PROMPTS, connect, hang_up, numbers, numbers_when_idle, raw_post

MAX_GROWTH = 1.05
MOMENTS = ["while sending", "soon", "later", "at the first byte"]


def call_and_go(server: ServerProcess, seed: int) -> None:
    """Ask, and hang up at a moment that the seed says."""
    chance = random.Random(seed)
    moment = chance.choice(MOMENTS)
    asked = raw_post(text=chance.choice(PROMPTS), num_images=chance.randint(1, 4), stream=chance.random() < 0.5, seed=seed)
    connection = connect(server)
    if moment == "while sending":
        connection.sendall(asked[: chance.randrange(len(asked))])
    else:
        connection.sendall(asked)
    if moment == "at the first byte":
        connection.recv(1)
    else:
        time.sleep(chance.random() * (0.05 if moment == "soon" else 1.0))  # no wait for anything: any moment will do
    hang_up(connection)


@pytest.mark.parametrize("callers", [40, pytest.param(200, marks=pytest.mark.soak)])
def test_callers_who_go_leave_nothing_behind(server: ServerProcess, callers: int) -> None:
    wanted = draw(server, text="a red circle", seed=1)
    memory = 0.0
    for round_number in range(2):  # what is taken once, threads' stacks say, is taken in the first
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda seed: call_and_go(server, seed), range(callers)))
        found = numbers_when_idle(server)
        memory, before = found["process_resident_memory_bytes"], memory
        assert round_number == 0 or memory < MAX_GROWTH * before
    assert found["dalle_images_cancelled_total"] > 0
    assert draw(server, text="a red circle", seed=1) == wanted
    assert numbers(server)["dalle_images_failed_total"] == 0
    print(f"\n2 x {callers} callers went away: slots in use 0, memory {memory / before - 1:+.1%}")
