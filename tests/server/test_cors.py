from __future__ import annotations

import pytest
from flask.testing import FlaskClient


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 200), ("POST", "/dalle", 400), ("GET", "/dalle", 405), ("GET", "/nothing", 404)]
)
def test_every_answer_may_be_read_by_any_page(client: FlaskClient, method: str, path: str, status: int) -> None:
    answer = client.open(path, method=method, headers={"Origin": "https://play.example"})
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("asked", ["content-type", "bypass-tunnel-reminder, mode", "authorization,x-anything-at-all"])
def test_a_preflight_allows_any_header(client: FlaskClient, asked: str) -> None:
    answer = client.options(
        "/dalle",
        headers={"Origin": "null", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked},
    )
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Headers"] == asked
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


def test_options_without_a_preflight_says_what_is_allowed(client: FlaskClient) -> None:
    assert "POST" in client.options("/dalle").headers["Allow"]
