"""Stop the server under load: who is being drawn for is answered, who comes later is told so, and nobody hangs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
import requests
from PIL import Image

from consts import EXIT_OK
from tests.end_to_end.callers import PATIENCE_SECONDS, eventually
from tests.end_to_end.server_process import STOP_SECONDS, ServerProcess
from tests.faults.calling import numbers, pictures

DRAIN_SECONDS = 200  # on a machine that does other things, too


@pytest.mark.parametrize("callers", [12, pytest.param(64, marks=pytest.mark.soak)])
def test_a_stop_under_load_loses_no_image(tmp_path: Path, callers: int) -> None:
    folder = tmp_path / "generations"
    statuses: list[int] = []

    def keep_asking(url: str) -> None:
        """Ask until the server is not there any more."""
        with requests.Session() as session, suppress(requests.ConnectionError):
            while True:
                answer = session.post(f"{url}/dalle", json={"text": "a red circle"}, timeout=PATIENCE_SECONDS)
                statuses.append(answer.status_code)
                if answer.status_code == 200:
                    [picture] = pictures(answer)
                    Image.open(BytesIO(picture)).load()
                elif answer.status_code == 503:
                    assert int(answer.headers["Retry-After"]) >= 1

    flags = ("--save_to_disk", "--output_dir", str(folder), "--max_batch_size", "8", "--drain_timeout", str(DRAIN_SECONDS))
    with ServerProcess(*flags) as running, ThreadPoolExecutor(callers) as pool:
        asking = [pool.submit(keep_asking, running.url) for _ in range(callers)]
        assert eventually(lambda: numbers(running)["dalle_slots_in_use"] > 0)
        assert running.stop(within=DRAIN_SECONDS + STOP_SECONDS) == EXIT_OK
        for caller in asking:
            caller.result()
        assert "Traceback" not in "".join(running.log)
    assert set(statuses) <= {200, 503}
    assert 200 in statuses
    saved = list(folder.iterdir())
    assert len(saved) == statuses.count(200)
    for request in saved:
        Image.open(request / "0.jpeg").load()
    drawn, refused = statuses.count(200), statuses.count(503)
    print(f"\nstopped with {callers} callers: {drawn} drawn, answered and saved, {refused} told to come back")
