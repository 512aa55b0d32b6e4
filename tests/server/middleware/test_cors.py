from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient

from dalle_model import DalleModel
from server import create_app
from server.config.settings import Settings
from server.middleware.cors import CorsPolicy

LISTED = "https://play.example"
STRANGERS = [
    "https://play.example.evil.example",
    "http://play.example",
    "https://play.example:8443",
    "https://PLAY.example",
    "null",
    "*",
    "",
]


@pytest.fixture
def choosy(tiny_model: DalleModel, settings: Settings) -> FlaskClient:
    return create_app(tiny_model, replace(settings, cors_origins=(LISTED, "http://localhost:3000"))).test_client()


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


@pytest.mark.parametrize("path", ["/dalle", "/nothing", "/v1/images/generations"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_preflight_passes_on_any_path_for_every_method_that_is_served(choosy: FlaskClient, path: str, method: str) -> None:
    asked = {"Origin": LISTED, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "x-api-key"}
    answer = choosy.options(path, headers=asked)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (204, LISTED)
    assert answer.headers["Access-Control-Allow-Headers"] == "x-api-key"
    assert method == "HEAD" or method in answer.headers["Access-Control-Allow-Methods"]  # HEAD needs no leave


def test_an_exception_in_a_route_may_be_read_too(app: Flask) -> None:
    @app.get("/broken")
    def broken() -> NoReturn:
        raise RuntimeError("as a test said")

    answer = app.test_client().get("/broken", headers={"Origin": LISTED})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (500, "*")


def test_the_headers_of_waiting_and_of_the_request_may_be_read(client: FlaskClient, choosy: FlaskClient) -> None:
    for each in (client, choosy):
        exposed = each.get("/", headers={"Origin": LISTED}).headers["Access-Control-Expose-Headers"]
        assert exposed == "Retry-After, X-Request-Id"


def test_a_caller_without_an_origin_is_not_told_the_list(choosy: FlaskClient) -> None:
    assert not [name for name, _ in choosy.get("/").headers if name.startswith("Access-Control")]


def test_a_policy_of_no_origin_holds_in_the_app(tiny_model: DalleModel, settings: Settings) -> None:
    closed = create_app(tiny_model, replace(settings, cors_origins=())).test_client()
    for headers in ({}, {"Origin": LISTED}, {"Origin": "null"}):
        assert "Access-Control-Allow-Origin" not in closed.get("/", headers=headers).headers


def test_an_origin_is_compared_as_text_not_as_a_pattern(tiny_model: DalleModel, settings: Settings) -> None:
    picky = create_app(tiny_model, replace(settings, cors_origins=("https://play.example", "http://[::1]:3000"))).test_client()
    for origin, is_read in (("http://[::1]:3000", True), ("https://playxexample", False), ("https://play.example\n", False)):
        assert ("Access-Control-Allow-Origin" in picky.get("/", environ_overrides={"HTTP_ORIGIN": origin}).headers) is is_read


def test_options_without_a_preflight_says_what_is_allowed(client: FlaskClient) -> None:
    assert "POST" in client.options("/dalle").headers["Allow"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 200), ("POST", "/dalle", 400), ("GET", "/dalle", 405), ("GET", "/nothing", 404)]
)
def test_a_listed_origin_may_read_and_no_other(choosy: FlaskClient, method: str, path: str, status: int) -> None:
    answer = choosy.open(path, method=method, headers={"Origin": LISTED})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (status, LISTED)
    assert "Origin" in answer.headers["Vary"]
    for stranger in STRANGERS:
        answer = choosy.open(path, method=method, headers={"Origin": stranger})
        assert answer.status_code == status
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Origin" in answer.headers["Vary"]  # or a cache hands it on


def test_a_preflight_of_a_listed_origin_passes_and_no_other(choosy: FlaskClient) -> None:
    def preflight(origin: str) -> dict[str, str]:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
        answer = choosy.options("/dalle", headers=asked)
        assert answer.status_code == 204
        assert "Origin" in answer.headers["Vary"]
        return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-Allow")}

    assert preflight("http://localhost:3000") == {
        "Access-Control-Allow-Origin": "http://localhost:3000",
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Allow-Headers": "x-api-key",
    }
    for stranger in STRANGERS:
        assert preflight(stranger) == {}


def test_without_origins_no_page_may_read() -> None:
    assert CorsPolicy(()).headers("https://play.example") == [("Vary", "Origin")]
    assert CorsPolicy(()).headers(None) == [("Vary", "Origin")]
