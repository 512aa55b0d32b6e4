from __future__ import annotations

from typing import NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.conftest import MakeClient

LISTED, LISTED_TOO = "https://play.example", "http://[::1]:3000"  # as a pattern, the second would not match itself
NOT_LISTED = [
    "https://play.example.evil.example",
    "http://play.example",
    "https://play.example:8443",
    "https://PLAY.example",
    "https://playxexample",
    "https://play.example\n",
    "null",
    "*",
    "",
]
ANSWERS = [("GET", "/", 200), ("POST", "/dalle", 400), ("GET", "/dalle", 405), ("GET", "/nothing", 404)]


@pytest.fixture
def restricted(make_client: MakeClient) -> FlaskClient:
    return make_client(cors_origins=(LISTED, LISTED_TOO))


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_by_default_pages_of_any_origin_may_read_every_answer(client: FlaskClient, method: str, path: str, status: int) -> None:
    answer = client.open(path, method=method, headers={"Origin": LISTED})
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("names", ["content-type", "bypass-tunnel-reminder, mode", "authorization,x-anything-at-all"])
def test_a_preflight_allows_any_header(client: FlaskClient, names: str) -> None:
    headers = {"Origin": "null", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": names}
    answer = client.options("/dalle", headers=headers)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Headers"] == names
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("path", ["/dalle", "/nothing", "/v1/images/generations"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_preflight_passes_on_any_path_for_every_method(restricted: FlaskClient, path: str, method: str) -> None:
    headers = {"Origin": LISTED, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "x-api-key"}
    answer = restricted.options(path, headers=headers)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (204, LISTED)
    assert answer.headers["Access-Control-Allow-Headers"] == "x-api-key"
    assert method == "HEAD" or method in answer.headers["Access-Control-Allow-Methods"]  # HEAD needs no permission


def test_pages_may_read_the_answer_to_an_exception_too(app: Flask) -> None:
    @app.get("/broken")
    def broken() -> NoReturn:
        raise RuntimeError("from a test")

    answer = app.test_client().get("/broken", headers={"Origin": LISTED})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (500, "*")


def test_pages_may_read_retry_after_and_the_requests_id(client: FlaskClient, restricted: FlaskClient) -> None:
    for each in (client, restricted):
        exposed = each.get("/", headers={"Origin": LISTED}).headers["Access-Control-Expose-Headers"]
        assert exposed == "Retry-After, X-Request-Id"


def test_a_client_without_an_origin_does_not_get_the_list(restricted: FlaskClient) -> None:
    assert not [name for name, _ in restricted.get("/").headers if name.startswith("Access-Control")]


def test_without_listed_origins_no_page_may_read(make_client: MakeClient) -> None:
    closed = make_client(cors_origins=())
    for headers in ({}, {"Origin": LISTED}, {"Origin": "null"}):
        answer = closed.get("/", headers=headers)
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Origin" in answer.headers["Vary"]


def test_options_without_a_preflight_lists_the_allowed_methods(client: FlaskClient) -> None:
    assert "POST" in client.options("/dalle").headers["Allow"]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_only_listed_origins_may_read(restricted: FlaskClient, method: str, path: str, status: int) -> None:
    for origin, allowed in ((LISTED, LISTED), (LISTED_TOO, LISTED_TOO), *((other, None) for other in NOT_LISTED)):
        answer = restricted.open(path, method=method, environ_overrides={"HTTP_ORIGIN": origin})
        assert (answer.status_code, answer.headers.get("Access-Control-Allow-Origin")) == (status, allowed), origin
        assert "Origin" in answer.headers["Vary"]  # so that no cache sends it to another origin


def test_only_listed_origins_pass_a_preflight(restricted: FlaskClient) -> None:
    def preflight(origin: str) -> dict[str, str]:
        headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
        answer = restricted.options("/dalle", headers=headers, environ_overrides={"HTTP_ORIGIN": origin})
        assert answer.status_code == 204
        assert "Origin" in answer.headers["Vary"]
        return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-Allow")}

    assert preflight(LISTED_TOO) == {
        "Access-Control-Allow-Origin": LISTED_TOO,
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Allow-Headers": "x-api-key",
    }
    for origin in NOT_LISTED:
        assert preflight(origin) == {}
