"""The real server when its engine fails, hangs or dies."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consts import EXIT_ENGINE_FAILED
from server.wsgi.watchdog import HANG_GRACE
from tests.end_to_end.callers import TIMEOUT_SECONDS, ask, draw, eventually, eventually_shows, health, metric, post, status_of
from tests.end_to_end.server_process import STOP_SECONDS, FaultyServer

STEP_TIMEOUT = 2  # after five times as long the process ends


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    with FaultyServer(tmp_path_factory.mktemp("faults"), "--step_timeout", str(STEP_TIMEOUT)) as running:
        yield running


@pytest.fixture
def server(running: FaultyServer) -> Iterator[FaultyServer]:
    """Return a server that goes on after a fault, for several tests."""
    yield running
    running.heal()
    assert eventually_shows(running, queue_images=0, slots_in_use=0)


def test_an_exception_is_500_with_the_requests_id_and_the_next_request_is_drawn(server: FaultyServer) -> None:
    expected = draw(server, seed=1, num_images=2)
    for method in ("step", "encode", "admit", "detokenize"):
        server.fault(f"{method} raise")
        failed = post(server)
        assert failed.status_code == 500
        assert failed.headers["X-Request-Id"] in failed.json()["error"]["message"]
        assert "Traceback" not in failed.text
        assert draw(server, seed=1, num_images=2) == expected
    assert health(server, "ready") == (200, "")


def test_exhausted_memory_loses_no_image_and_makes_the_batch_smaller(server: FaultyServer) -> None:
    failed = metric(server, "dalle_images_failed_total")
    expected = draw(server, seed=1, num_images=6)
    server.fault("step memory 2")
    assert draw(server, seed=1, num_images=6) == expected
    assert metric(server, "dalle_slots") <= 2
    assert metric(server, "dalle_images_failed_total") == failed
    server.heal()
    assert draw(server, seed=1, num_images=6) == expected


def test_a_step_that_hangs_fails_liveness_until_it_goes_on(server: FaultyServer) -> None:
    assert health(server, "live") == health(server, "ready") == (200, "")
    server.fault("step hold")
    caller = ask(server)
    assert eventually(lambda: health(server, "live")[0] == 503)
    assert "hangs" in health(server, "live")[1]
    assert health(server, "ready")[0] == 503
    server.heal()
    assert status_of(caller) == 200
    assert health(server, "live") == (200, "")


def test_a_step_that_keeps_hanging_ends_the_process(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--step_timeout", "1", "--max_batch_size", "1") as server:
        server.fault("step hold")
        began = time.monotonic()
        callers = [ask(server), ask(server)]
        assert eventually(lambda: health(server, "live")[0] == 503)
        assert [status_of(caller) for caller in callers] == [503, 503]
        assert server.process.wait(STOP_SECONDS) == EXIT_ENGINE_FAILED
        assert time.monotonic() - began > 1 + HANG_GRACE
        assert eventually(lambda: any("it hangs, and the process ends" in line for line in server.log))
        assert not any("Traceback" in line for line in server.log)


def test_a_step_that_hangs_does_not_delay_a_stop(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--step_timeout", "1", "--drain_timeout", "600") as server:
        server.fault("step hold")
        caller = ask(server)
        assert eventually_shows(server, slots_in_use=1)
        assert server.stop(within=TIMEOUT_SECONDS) == EXIT_ENGINE_FAILED
        assert status_of(caller) == 503


def test_a_pause_of_the_process_is_not_a_hang(server: FaultyServer) -> None:
    server.fault("step hold")
    caller = ask(server)
    assert eventually_shows(server, slots_in_use=1)
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(STEP_TIMEOUT * (1 + HANG_GRACE) + 1)
    server.process.send_signal(signal.SIGCONT)
    time.sleep(1.5)  # for the watchdog's next check
    server.heal()
    assert status_of(caller) == 200
    assert health(server, "live") == (200, "")


def test_an_engine_that_dies_ends_the_process(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--max_batch_size", "1") as server:
        server.fault("step hold")
        callers = [ask(server), ask(server)]
        assert eventually_shows(server, slots_in_use=1, queue_images=1)
        server.fault("step die")
        assert [status_of(caller) for caller in callers] == [503, 503]
        assert server.process.wait(STOP_SECONDS) == EXIT_ENGINE_FAILED
        assert eventually(lambda: any("the engine died" in line for line in server.log))
