"""`/openapi.json` and `/docs` agree with the app that they describe."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from server.api.a1111.routes import EMPTY_LISTS
from tests.conftest import MakeClient

# Pages for people, their files, and the description itself.
OMITTED = {
    "/docs",
    "/docs/",
    "/openapi.json",
    "/playground",
    "/playground/",
    "/playground/<name>",
    "/playground/model.json",
    # Second names of OpenAI's routes, and what A1111's clients ask for on the way.
    "/images/generations",
    "/images/edits",
    "/images/variations",
    "/openai/v1/images/generations",
    "/openai/deployments/<deployment>/images/generations",
    "/models",
    "/models/<path:model_id>",
    *(f"/sdapi/v1/{name}" for name in ("cmd-flags", "memory", "scripts", "refresh-checkpoints", *EMPTY_LISTS)),
}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    document: dict[str, Any] = answer.get_json()
    return document


def test_the_document_is_openapi_3_1_and_every_operation_has_its_own_id(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"]
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


def test_exactly_the_served_routes_are_described(app: Flask, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule not in OMITTED
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == routes


@pytest.mark.parametrize(("model", "field"), [("DalleRequest", "num_images"), ("ImagesRequest", "n")])
def test_the_limits_are_those_of_the_servers_settings(make_client: MakeClient, model: str, field: str) -> None:
    document = make_client(max_images=3).get("/openapi.json").get_json()
    schema = document["components"]["schemas"][model]["properties"][field]
    assert (schema["type"], schema["minimum"], schema["maximum"]) == (["integer", "null"], 1, 3)


def test_operations_that_need_a_key_say_so(document: dict[str, Any], make_client: MakeClient) -> None:
    assert "securitySchemes" not in document["components"]
    locked = make_client(api_key=("secret-key",))
    for path, methods in locked.get("/openapi.json").get_json()["paths"].items():
        for method, operation in methods.items():
            concrete = re.sub(r"\{\w+\}", "x", path)
            is_locked = locked.open(concrete, method=method).status_code == 401
            assert ("security" in operation, "401" in operation["responses"]) == (is_locked, is_locked), path


def test_the_page_shows_every_operation_and_field_and_loads_nothing(client: FlaskClient, document: dict[str, Any]) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code>" in page.text
            assert f'id="{operation["operationId"]}"' in page.text
    for schema in document["components"]["schemas"].values():
        for field in schema.get("properties", {}):
            assert f"<code>{field}</code>" in page.text
    assert "`" not in page.text, "text between backticks is shown as code"
    assert client.get("/docs/").headers["Location"] == "../docs"
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|https?://", page.text)
