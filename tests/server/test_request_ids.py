from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from server.logs import configure_logging


@pytest.fixture
def configured(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Log to the captured stderr as the server does, and put pytest's own logging back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    configure_logging("info")
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_every_request_has_an_id_of_its_own(client: FlaskClient) -> None:
    assert len({client.get(path).headers["X-Request-Id"] for path in ("/", "/", "/nothing")}) == 3


@pytest.mark.usefixtures("configured")
def test_the_log_has_a_line_a_request_with_its_id_and_without_its_text(
    client: FlaskClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = client.post("/dalle?secret", data='{"text": "a secret", "num_images": 0}')
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(rf" INFO +{answer.headers['X-Request-Id']} dalle.requests: POST /dalle 400 in \d+ ms$", line)


@pytest.mark.usefixtures("configured")
def test_outside_of_a_request_there_is_no_id(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("dalle").warning("hello")
    assert re.search(r" WARNING - dalle: hello$", capsys.readouterr().err.strip())
