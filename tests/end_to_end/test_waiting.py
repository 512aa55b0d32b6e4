"""The real server's queue: bounded, fair, with a deadline, and without disconnected clients."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from consts import EXIT_OK
from tests.end_to_end.callers import ask, draw, eventually, eventually_shows, metric, post, status_of
from tests.end_to_end.server_process import FaultyServer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    with FaultyServer(tmp_path_factory.mktemp("faults"), "--max_batch_size", "1", "--max_queue", "2") as running:
        yield running


@pytest.fixture
def server(running: FaultyServer) -> Iterator[FaultyServer]:
    yield running
    running.heal()
    assert eventually_shows(running, queue_images=0, slots_in_use=0)


def test_a_disconnect_while_drawing_frees_the_slot(server: FaultyServer) -> None:
    cancelled, drawn = metric(server, "dalle_images_cancelled_total"), metric(server, "dalle_images_drawn_total")
    server.fault("step hold")
    caller = ask(server)
    assert eventually_shows(server, slots_in_use=1)
    caller.close()
    assert eventually_shows(server, images_cancelled_total=cancelled + 1)
    server.heal()
    assert eventually_shows(server, slots_in_use=0)
    assert metric(server, "dalle_images_drawn_total") == drawn


@pytest.mark.parametrize(
    ("path", "fields"), [("/dalle", {"stream": True}), ("/v1/images/generations", {"prompt": "a red circle", "stream": True})]
)
def test_a_disconnect_from_a_stream_frees_the_slot(server: FaultyServer, path: str, fields: dict[str, Any]) -> None:
    cancelled = metric(server, "dalle_images_cancelled_total")
    server.fault("step hold 40")
    with ask(server, path, **fields) as caller, caller.makefile("rb") as received:
        assert received.readline().split()[1] == b"200"
        assert eventually_shows(server, slots_in_use=1)
    assert eventually_shows(server, images_cancelled_total=cancelled + 1)
    server.heal()
    assert eventually_shows(server, slots_in_use=0)


def test_a_disconnect_while_waiting_leaves_the_queue_at_once(server: FaultyServer) -> None:
    server.fault("step hold")
    with ask(server):
        assert eventually_shows(server, slots_in_use=1)
        waiting = ask(server, num_images=2)
        assert eventually_shows(server, queue_images=2)
        waiting.close()
        assert eventually_shows(server, queue_images=0)


def test_a_full_queue_is_429_with_retry_after_and_accepted_requests_are_drawn(server: FaultyServer) -> None:
    server.fault("step hold")
    accepted = [ask(server, num_images=2)]
    assert eventually_shows(server, slots_in_use=1)
    accepted.append(ask(server))
    assert eventually_shows(server, queue_images=2)
    refused = post(server)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 120
    assert "again" in refused.json()["error"]["message"]
    server.heal()
    assert [status_of(caller) for caller in accepted] == [200, 200]


def test_more_images_than_the_queue_can_ever_hold_are_400(server: FaultyServer) -> None:
    refused = post(server, num_images=4)
    assert refused.status_code == 400
    assert refused.json()["error"]["field"] == "num_images"
    assert len(draw(server, num_images=3)) == 3


def test_one_image_does_not_wait_for_ten(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--max_batch_size", "1") as server, ThreadPoolExecutor(2) as pool:
        server.fault("step hold")
        many = pool.submit(post, server, "asked-first-for-ten", num_images=10)
        assert eventually_shows(server, slots_in_use=1, queue_images=9)
        one = pool.submit(post, server, "asked-then-for-one")
        assert eventually_shows(server, slots_in_use=1, queue_images=10)
        server.heal()
        assert (many.result().status_code, one.result().status_code) == (200, 200)
        assert server.stop() == EXIT_OK
        answered = [line for line in server.log if "asked-" in line]
        assert ["for-one" in line for line in answered] == [True, False]


def test_a_request_over_its_deadline_is_504_and_frees_its_slot(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--request_timeout", "1") as server:
        server.fault("step hold")
        assert post(server, num_images=3).status_code == 504
        server.heal()
        assert eventually_shows(server, slots_in_use=0, images_cancelled_total=3)


def test_a_disconnect_does_not_change_other_images(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--max_batch_size", "8") as server, ThreadPoolExecutor(1) as pool:
        alone = draw(server, seed=5, num_images=3)
        server.fault("step hold 40")
        leaving = [ask(server, text="two yellow hearts", num_images=2)]
        staying = pool.submit(draw, server, seed=5, num_images=3)
        leaving.append(ask(server, text="a star", num_images=4))
        assert eventually(lambda: metric(server, "dalle_slots_in_use") + metric(server, "dalle_queue_images") == 9)
        for caller in leaving:
            caller.close()
        assert eventually_shows(server, images_cancelled_total=6)
        server.heal()
        assert staying.result() == alone
        assert metric(server, "dalle_images_cancelled_total") == 6
