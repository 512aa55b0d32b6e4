"""The real server among several callers: turns, and a caller's share of the queue."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from consts import EXIT_BAD_SETTING
from tests.end_to_end.callers import ask, eventually_shows, metric, post, status_of
from tests.end_to_end.server_process import FaultyServer, ServerProcess, run_app
from tests.end_to_end.test_hosts import free_port

ANN, BOB = "the-key-of-ann", "the-key-of-bob"


def draw_as(server: ServerProcess, key: str, request_id: str = "someone") -> requests.Response:
    headers = {"X-API-Key": key, "X-Request-Id": request_id}
    return requests.post(f"{server.url}/dalle", json={"text": "a red circle"}, headers=headers, timeout=120)


def test_one_caller_of_one_image_does_not_wait_for_anothers_many_requests(tmp_path: Path) -> None:
    with (
        FaultyServer(tmp_path, "--max_batch_size", "1", DALLE_API_KEY=f"{ANN},{BOB}") as server,
        ThreadPoolExecutor(9) as pool,
    ):
        server.fault("step hold")
        flood = [pool.submit(draw_as, server, ANN, f"asked-by-ann-{number}") for number in range(8)]
        assert eventually_shows(server, slots_in_use=1, queue_images=7)
        one = pool.submit(draw_as, server, BOB, "asked-by-bob")
        assert eventually_shows(server, slots_in_use=1, queue_images=8)
        server.heal()
        assert {answer.result().status_code for answer in [*flood, one]} == {200}
        server.stop()
        answered = [line for line in server.log if "asked-by" in line]
        assert ["by-bob" in line for line in answered].index(True) <= 2


def test_a_caller_gets_429_beyond_its_share_of_the_queue_and_others_do_not(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--max_batch_size", "1", "--max_queue", "4", "--trust_proxy") as server:
        server.fault("step hold")
        accepted = [ask(server, num_images=4)]
        assert eventually_shows(server, slots_in_use=1, queue_images=3)
        refused = post(server)
        assert refused.status_code == 429 and 1 <= int(refused.headers["Retry-After"]) <= 120
        assert "images of yours" in refused.json()["error"]["message"]
        assert "--max_queue_per_caller" in refused.json()["error"]["message"]
        other = {"X-Forwarded-For": "192.0.2.1"}
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(requests.post, f"{server.url}/dalle", json={"text": "a ring"}, headers=other, timeout=120)
            assert eventually_shows(server, queue_images=4)
            full = requests.post(f"{server.url}/dalle", json={"text": "a ring"}, headers=other, timeout=120)
            assert full.status_code == 429 and "of all callers" in full.json()["error"]["message"]
            for limit in ("caller", "queue"):
                assert metric(server, f'dalle_requests_refused_total{{limit="{limit}"}}') == 1
            server.heal()
            assert late.result().status_code == 200
        assert [status_of(caller) for caller in accepted] == [200]


def test_a_storage_that_does_not_answer_refuses_to_start() -> None:
    url = f"redis://:hush-hush@127.0.0.1:{free_port()}"
    refused = run_app("--rate_limit", "2 per hour", "--rate_limit_storage", url)
    assert refused.returncode == EXIT_BAD_SETTING
    assert refused.stderr.strip().splitlines()[-1] == (
        "app.py: --rate_limit_storage does not answer: start it, or correct its address"
    )
