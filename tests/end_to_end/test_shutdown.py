"""Stopping the real server while it draws."""

from __future__ import annotations

import signal
from pathlib import Path

from PIL import Image

from consts import EXIT_ENGINE_FAILED, EXIT_OK
from tests.end_to_end.callers import ask, eventually, eventually_shows, health, post, status_of
from tests.end_to_end.server_process import STOP_SECONDS, FaultyServer


def test_accepted_requests_are_drawn_and_saved_and_others_are_refused(tmp_path: Path) -> None:
    """With SIGINT, too: tests/faults/test_shutdown.py sends it under load."""
    output_dir = tmp_path / "generations"
    options = ["--save_to_disk", "--output_dir", str(output_dir), "--drain_timeout", "600"]  # long enough for a busy machine
    with FaultyServer(tmp_path, "--max_batch_size", "2", *options) as server:
        server.fault("step hold")
        accepted = [ask(server, num_images=2), ask(server, num_images=3)]
        assert eventually_shows(server, slots_in_use=2, queue_images=3)
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: health(server, "ready")[0] == 503)
        assert "stopping" in health(server, "ready")[1]
        assert health(server, "live") == (200, "")
        refused = post(server)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        server.heal()
        assert [status_of(caller) for caller in accepted] == [200, 200]
        assert server.process.wait(STOP_SECONDS) == EXIT_OK
        assert "Traceback" not in "".join(server.log)
    files = sorted(output_dir.rglob("*.jpeg"))
    assert len(files) == 5
    for file in files:
        with Image.open(file) as image:
            image.load()
    assert not list(output_dir.glob(".unfinished-*/*"))


def test_a_second_signal_ends_it_immediately(tmp_path: Path) -> None:
    with FaultyServer(tmp_path) as server:
        server.fault("step hold")
        with ask(server):
            assert eventually_shows(server, slots_in_use=1)
            server.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: health(server, "ready")[0] == 503)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(STOP_SECONDS) == -signal.SIGTERM


def test_an_unfinished_request_is_refused_after_the_drain_timeout(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--drain_timeout", "0", "--max_batch_size", "1") as server:
        caller = ask(server, num_images=10)
        assert eventually_shows(server, slots_in_use=1)
        server.process.send_signal(signal.SIGTERM)
        assert status_of(caller) == 503
        assert server.process.wait(STOP_SECONDS) == EXIT_OK


def test_a_hanging_engine_does_not_keep_the_process_up(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--drain_timeout", "1") as server:
        server.fault("step hold")
        caller = ask(server)
        assert eventually_shows(server, slots_in_use=1)
        server.process.send_signal(signal.SIGTERM)
        assert status_of(caller) == 503
        assert server.process.wait(STOP_SECONDS) == EXIT_ENGINE_FAILED
