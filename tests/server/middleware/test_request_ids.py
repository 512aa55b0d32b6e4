from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from server.middleware.request_ids import request_id


def test_every_request_has_an_id_of_its_own(client: FlaskClient) -> None:
    assert len({client.get(path).headers["X-Request-Id"] for path in ("/", "/", "/nothing")}) == 3


def test_outside_of_a_request_there_is_none(client: FlaskClient) -> None:
    client.get("/")
    assert request_id() == "-"


@pytest.mark.parametrize("asked", ["7", "req_9f.A-", "x" * 64])
def test_a_callers_own_id_is_kept(client: FlaskClient, asked: str) -> None:
    assert client.get("/nothing", headers={"X-Request-Id": asked}).headers["X-Request-Id"] == asked


@pytest.mark.parametrize("asked", ["", "x" * 65, "a b", "a;b", "é", '"', "{}", "a%0Ab"])
def test_an_id_that_is_not_sane_is_replaced(client: FlaskClient, asked: str) -> None:
    given = client.get("/", headers={"X-Request-Id": asked}).headers["X-Request-Id"]
    assert given != asked
    assert len(given) == 12
