from __future__ import annotations

from flask.testing import FlaskClient

from server.request_ids import request_id


def test_every_request_has_an_id_of_its_own(client: FlaskClient) -> None:
    assert len({client.get(path).headers["X-Request-Id"] for path in ("/", "/", "/nothing")}) == 3


def test_outside_of_a_request_there_is_none() -> None:
    assert request_id() == "-"
