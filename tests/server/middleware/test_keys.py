from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.conftest import MakeClient

KEY, OTHER = "a-key-of-the-page", "a-key-of-the-bot"
PAGE = {"/playground", "/playground/", "/playground/<name>", "/playground/model.json"}
OPEN = {"/", "/health/live", "/health/ready", *PAGE, "/openapi.json", "/docs", "/docs/", "/metrics"}


@pytest.fixture
def locked(make_client: MakeClient) -> FlaskClient:
    return make_client(api_key=(KEY,), api_key_file=(OTHER,))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {OTHER}"},
        {"X-API-Key": KEY},
        {"Authorization": "Bearer of-another-server", "X-API-Key": OTHER},
        {"Authorization": "Basic dTpw", "X-API-Key": KEY},
    ],
)
def test_a_request_with_a_key_is_drawn(locked: FlaskClient, headers: dict[str, str]) -> None:
    assert locked.post("/dalle", data=b'{"text": "a red circle"}', headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/dalle", "/generate"])
@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "An API key is required"),
        ({"Authorization": "Bearer "}, "An API key is required"),
        ({"Authorization": KEY}, "An API key is required"),
        ({"Authorization": f"Basic {KEY}"}, "An API key is required"),
        ({"Authorization": f"Bearer {KEY}x"}, "The API key is wrong"),
        ({"Authorization": f"Bearer {KEY[:-1]}"}, "The API key is wrong"),
        ({"X-API-Key": f"{KEY},{OTHER}"}, "The API key is wrong"),
        ({"X-API-Key": KEY.upper()}, "The API key is wrong"),
        ({"X-API-Key": "ключ".encode().decode("latin-1")}, "The API key is wrong"),
    ],
)
def test_a_request_without_a_valid_key_is_refused(locked: FlaskClient, path: str, headers: dict[str, str], message: str) -> None:
    answer = locked.post(path, data=b'{"text": "a red circle"}', headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].lower().startswith("bearer")
    assert answer.get_json()["error"]["message"].startswith(message)
    assert "X-API-Key" in answer.get_json()["error"]["message"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_every_route_needs_a_key_except_the_open_ones(locked: FlaskClient) -> None:
    """A new route needs a key until OPEN here and server/middleware/keys.py list it."""
    for rule in locked.application.url_map.iter_rules():
        path = rule.rule
        for part in rule.arguments:
            path = path.replace(next(word for word in path.split("/") if word.strip("<>").endswith(part)), "name")
        status = locked.open(path, method=min((rule.methods or set()) - {"OPTIONS", "HEAD"})).status_code
        is_open = rule.rule in OPEN or rule.rule.startswith("/images/<")
        assert (status == 401) is not is_open, (rule.rule, status)


def test_a_preflight_and_an_unknown_path_need_no_key(locked: FlaskClient) -> None:
    headers = {"Origin": "https://play.example", "Access-Control-Request-Method": "POST"}
    assert locked.options("/dalle", headers=headers).status_code == 204
    assert locked.get("/nothing").status_code == 404
