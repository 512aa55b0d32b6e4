from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from dalle_model import DalleModel
from server import create_app
from server.config.settings import Settings
from server.middleware.keys import Keys
from server.wsgi.listener import take_port, warn_of_open_door

KEY, OTHER = "a-key-of-the-page", "a-key-of-the-bot"
PAGE = {"/playground", "/playground/", "/playground/<name>", "/playground/model.json"}
OPEN = {"/", "/health/live", "/health/ready", *PAGE, "/openapi.json", "/docs", "/docs/", "/metrics"}


@pytest.fixture
def locked_app(tiny_model: DalleModel, settings: Settings) -> Flask:
    return create_app(tiny_model, replace(settings, api_key=(KEY,), api_key_file=(OTHER,)))


@pytest.fixture
def locked(locked_app: Flask) -> FlaskClient:
    return locked_app.test_client()


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
def test_who_has_a_key_draws(locked: FlaskClient, headers: dict[str, str]) -> None:
    assert locked.post("/dalle", data=b'{"text": "a red circle"}', headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/dalle", "/generate"])
@pytest.mark.parametrize(
    ("headers", "said"),
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
def test_who_has_none_does_not(locked: FlaskClient, path: str, headers: dict[str, str], said: str) -> None:
    answer = locked.post(path, data=b'{"text": "a red circle"}', headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].lower().startswith("bearer")
    assert answer.get_json()["error"]["message"].startswith(said)
    assert "X-API-Key" in answer.get_json()["error"]["message"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_every_route_is_locked_but_those_that_are_to_be_open(locked_app: Flask) -> None:
    """Also a route that is added later, until it is named in OPEN here and in server/middleware/keys.py."""
    client = locked_app.test_client()
    for rule in locked_app.url_map.iter_rules():
        path = rule.rule
        for part in rule.arguments:
            path = path.replace(next(word for word in path.split("/") if word.strip("<>").endswith(part)), "name")
        status = client.open(path, method=min((rule.methods or set()) - {"OPTIONS", "HEAD"})).status_code
        is_open = rule.rule in OPEN or rule.rule.startswith("/images/<")
        assert (status == 401) is not is_open, (rule.rule, status)


def test_a_preflight_and_an_unknown_path_need_no_key(locked: FlaskClient) -> None:
    asked = {"Origin": "https://play.example", "Access-Control-Request-Method": "POST"}
    assert locked.options("/dalle", headers=asked).status_code == 204
    assert locked.get("/nothing").status_code == 404


def test_without_keys_any_key_will_do(client: FlaskClient) -> None:
    """OpenAI's client can't be built without one."""
    headers = {"Authorization": "Bearer anything"}
    assert client.post("/dalle", data=b'{"text": "a red circle"}', headers=headers).status_code == 200


def test_a_key_is_compared_with_all() -> None:
    keys = Keys([KEY, OTHER])
    assert KEY in keys
    assert OTHER in keys
    assert "" not in keys
    assert KEY + OTHER not in keys


def test_no_key_is_logged(locked: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for key in (KEY, "wrong-and-secret"):
        locked.post("/dalle", data=b"{}", headers={"Authorization": f"Bearer {key}"})
        locked.post("/dalle?key=" + key, data=b"{}", headers={"X-API-Key": key})
    assert len(caplog.records) >= 4
    assert KEY not in caplog.text
    assert "wrong-and-secret" not in caplog.text


@pytest.mark.parametrize(
    ("host", "keys", "warns"),
    [
        ("127.0.0.1", (), False),
        ("localhost", (), False),
        ("0.0.0.0", (), True),
        ("0.0.0.0", (KEY,), False),
    ],
)
def test_an_open_door_is_warned_of(host: str, keys: tuple[str, ...], warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    with take_port(host, 0) as listener:
        warn_of_open_door(Settings(host=host, api_key=keys), listener)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warns
