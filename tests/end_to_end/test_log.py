"""Read the real server's log."""

from __future__ import annotations

import re
import time

import requests

from tests.end_to_end.server_process import ServerProcess


def test_a_request_is_one_line_with_its_id_and_without_its_text(server: ServerProcess) -> None:
    answer = requests.post(f"{server.url}/dalle?secret", data='{"text": "a secret", "num_images": 1}', timeout=60)
    request_id = answer.headers["X-Request-Id"]
    deadline = time.monotonic() + 10
    while not (lines := [line for line in server.log if request_id in line]) and time.monotonic() < deadline:
        time.sleep(0.01)
    [line] = lines
    assert re.search(rf" INFO +{request_id} dalle\.requests: POST /dalle 200 in \d+ ms$", line.strip())


def test_a_mistyped_variable_is_told() -> None:
    with ServerProcess(DALLE_PROT="1") as running:
        assert any("DALLE_PROT sets nothing; is DALLE_PORT meant?" in line for line in running.log)
