from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from server.middleware.request_ids import request_id


def test_every_request_has_its_own_id(client: FlaskClient) -> None:
    assert len({client.get(path).headers["X-Request-Id"] for path in ("/", "/", "/nothing")}) == 3


def test_outside_a_request_there_is_no_id(client: FlaskClient) -> None:
    client.get("/")
    assert request_id() == "-"


@pytest.mark.parametrize("sent", ["7", "req_9f.A-", "x" * 64])
def test_a_clients_well_formed_id_is_kept(client: FlaskClient, sent: str) -> None:
    assert client.get("/nothing", headers={"X-Request-Id": sent}).headers["X-Request-Id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", "a;b", "é", '"', "{}", "a%0Ab"])
def test_an_id_that_is_not_well_formed_is_replaced(client: FlaskClient, sent: str) -> None:
    received = client.get("/", headers={"X-Request-Id": sent}).headers["X-Request-Id"]
    assert received != sent
    assert len(received) == 12
