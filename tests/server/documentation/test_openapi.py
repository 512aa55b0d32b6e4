"""Hold /openapi.json and /docs to the app that they describe."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from dalle_model import DalleModel
from server import create_app
from server.config.settings import Settings

# Pages for people, what they are made of, and the description itself.
NO_API = {"/docs", "/docs/", "/openapi.json", "/playground", "/playground/", "/playground/<name>", "/playground/model.json"}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    described: dict[str, Any] = answer.get_json()
    return described


def test_it_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"]


def test_every_route_is_described_and_no_other(app: Flask, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule not in NO_API
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == routes


def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    references = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document)))
    assert references == set(re.findall(r"\w+", " ".join(document["components"]["schemas"]))) & references
    assert references


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("model", "field"), [("DalleRequest", "num_images"), ("ImagesRequest", "n")])
def test_the_bounds_are_the_servers_own(tiny_model: DalleModel, settings: Settings, model: str, field: str) -> None:
    small = create_app(tiny_model, replace(settings, max_images=3)).test_client()
    described = small.get("/openapi.json").get_json()["components"]["schemas"][model]["properties"][field]
    assert (described["type"], described["minimum"], described["maximum"]) == (["integer", "null"], 1, 3)


def test_keys_are_asked_for_where_there_are_some(document: dict[str, Any], tiny_model: DalleModel, settings: Settings) -> None:
    assert "securitySchemes" not in document["components"]
    locked = create_app(tiny_model, replace(settings, api_key=("secret-key",))).test_client()
    described = locked.get("/openapi.json").get_json()
    for path, methods in described["paths"].items():
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
    assert "`" not in page.text, "what stands in backticks is set as code"
    assert client.get("/docs/").headers["Location"] == "../docs"
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|https?://", page.text)
