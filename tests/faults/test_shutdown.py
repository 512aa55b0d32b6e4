"""Stopping the server under load: accepted requests are drawn, later ones refused, and none hangs."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
import requests
from PIL import Image

from consts import EXIT_OK
from tests.end_to_end.callers import TIMEOUT_SECONDS, eventually
from tests.end_to_end.server_process import STOP_SECONDS, ServerProcess
from tests.faults.calling import images_in, metrics

DRAIN_SECONDS = 200  # long enough for a busy machine


@pytest.mark.parametrize("callers", [12, pytest.param(64, marks=pytest.mark.soak)])
def test_a_stop_under_load_loses_no_image(tmp_path: Path, callers: int) -> None:
    folder = tmp_path / "generations"
    statuses: list[int] = []

    def send_requests(url: str) -> None:
        """Send requests until the server is gone."""
        with requests.Session() as session, suppress(requests.ConnectionError):
            while True:
                answer = session.post(f"{url}/dalle", json={"text": "a red circle"}, timeout=TIMEOUT_SECONDS)
                statuses.append(answer.status_code)
                if answer.status_code == 200:
                    [image] = images_in(answer)
                    Image.open(BytesIO(image)).load()
                elif answer.status_code == 503:
                    assert int(answer.headers["Retry-After"]) >= 1

    flags = ("--save_to_disk", "--output_dir", str(folder), "--max_batch_size", "8", "--drain_timeout", str(DRAIN_SECONDS))
    with ServerProcess(*flags) as running, ThreadPoolExecutor(callers) as pool:
        clients = [pool.submit(send_requests, running.url) for _ in range(callers)]
        assert eventually(lambda: metrics(running)["dalle_slots_in_use"] > 0)
        assert running.stop(signal.SIGINT, within=DRAIN_SECONDS + STOP_SECONDS) == EXIT_OK
        for client in clients:
            client.result()
        assert "Traceback" not in "".join(running.log)
    assert set(statuses) <= {200, 503}
    assert 200 in statuses
    saved = list(folder.iterdir())
    assert len(saved) == statuses.count(200)
    for request in saved:
        Image.open(request / "0.jpeg").load()
    drawn, refused = statuses.count(200), statuses.count(503)
    print(f"\nstopped with {callers} clients: {drawn} requests drawn, returned and saved, {refused} refused")
