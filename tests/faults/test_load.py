"""More requests than the server can draw, from many connections at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.end_to_end.callers import TIMEOUT_SECONDS, draw
from tests.end_to_end.server_process import ServerProcess
from tests.faults.calling import PROMPTS, metrics_when_idle

BODIES = [{"text": PROMPTS[index % len(PROMPTS)], "seed": 100 + index, "num_images": 1 + index % 2} for index in range(8)]


def call_in_turn(url: str, indices: list[int]) -> Iterator[tuple[int, requests.Response]]:
    """Send several requests over one connection."""
    with requests.Session() as session:
        for index in indices:
            fields: dict[str, Any] = {**BODIES[index % len(BODIES)], "img_format": "png"}
            yield index, session.post(f"{url}/dalle", json=fields, timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    ("count", "connections", "flags"),
    [
        (80, 40, ("--max_batch_size", "8", "--max_queue", "8")),
        pytest.param(500, 200, (), marks=pytest.mark.soak),  # with the defaults: 32 slots, and 64 images in the queue
    ],
)
def test_every_request_is_drawn_as_if_alone_or_refused_at_once(count: int, connections: int, flags: tuple[str, ...]) -> None:
    by_connection = [list(range(count))[number::connections] for number in range(connections)]
    with ServerProcess("--log_level", "warning", *flags) as server, ThreadPoolExecutor(connections) as pool:
        alone = [draw(server, **fields) for fields in BODIES]
        calls = pool.map(lambda indices: list(call_in_turn(server.url, indices)), by_connection)
        answers = [answer for answered in calls for answer in answered]
        found = metrics_when_idle(server)
    statuses = Counter(answer.status_code for _, answer in answers)
    assert statuses.total() == count
    assert set(statuses) == {200, 429}
    assert all(int(answer.headers["Retry-After"]) >= 1 for _, answer in answers if answer.status_code == 429)
    assert all(
        answer.json()["generatedImgs"] == alone[index % len(BODIES)] for index, answer in answers if answer.status_code == 200
    )
    assert found["dalle_images_failed_total"] == found["dalle_images_cancelled_total"] == 0
    print(f"\n{count} requests, {connections} connections: {dict(statuses)}, lost 0")
