"""The real server's log."""

from __future__ import annotations

import json
import re
import socket
import time

import requests

from consts import EXIT_OK
from tests.end_to_end.server_process import ServerProcess


def test_a_request_is_one_line_with_its_id_and_without_its_prompt(server: ServerProcess) -> None:
    answer = requests.post(f"{server.url}/dalle?secret", data='{"text": "a secret", "num_images": 1}', timeout=60)
    request_id = answer.headers["X-Request-Id"]
    deadline = time.monotonic() + 10
    while not (lines := [line for line in server.log if request_id in line]) and time.monotonic() < deadline:
        time.sleep(0.01)
    [line] = lines
    assert re.search(rf" INFO +{request_id} dalle\.requests: POST /dalle 200 in \d+ ms$", line.strip())


def test_a_misspelled_variable_is_logged(custom_server: ServerProcess) -> None:
    assert any("DALLE_PROT sets nothing; is DALLE_PORT meant?" in line for line in custom_server.log)


def test_in_json_format_every_line_is_json_and_no_line_has_a_key() -> None:
    key = "a-key-that-nobody-sees"
    with ServerProcess("--log_format", "json", "--log_level", "debug", "--host", "0.0.0.0", DALLE_API_KEY=key) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as caller:
            caller.sendall(b"BREW / HTCPCP/1.0\r\nX-API-Key: %s\r\nno colon\r\n\r\n" % key.encode())
            assert caller.recv(100).startswith(b"HTTP/1.0 400")
        for headers, status in (({}, 401), ({"X-API-Key": key + "x"}, 401), ({"Authorization": f"Bearer {key}"}, 400)):
            assert requests.post(f"{running.url}/dalle", data=b"{}", headers=headers, timeout=60).status_code == status
        assert running.stop() == EXIT_OK
    events = [json.loads(line) for line in running.log]
    assert {"dalle.requests", "dalle.serving"} <= {event["logger"] for event in events}
    assert key not in "".join([*running.log, *running.lines])
    assert "$DALLE_API_KEY" in running.output  # in the command to paste
