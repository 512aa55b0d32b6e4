from __future__ import annotations

import time

import pytest
from flask.testing import FlaskClient


def test_the_loaded_model_is_listed(client: FlaskClient) -> None:
    listed = client.get("/v1/models").get_json()
    assert listed["object"] == "list"
    card, *aliases = listed["data"]
    assert (card["id"], card["object"], card["owned_by"]) == ("Tiny", "model", "dalle")
    assert [(alias["id"], alias["owned_by"]) for alias in aliases] == [
        (name, "alias of Tiny") for name in ("dall-e-2", "dall-e-3", "gpt-image-1")
    ]
    assert isinstance(card["created"], int) and card["created"] <= time.time()


@pytest.mark.parametrize("name", ["Tiny", "tiny"])
def test_the_loaded_model_is_found_by_its_name(client: FlaskClient, name: str) -> None:
    assert client.get(f"/v1/models/{name}").get_json() == client.get("/v1/models").get_json()["data"][0]


@pytest.mark.parametrize("path", ["dall-e-4", "owner/dall-e", "owner%2Fdall-e", "a/b/c", "%7Bpath%7D", "Tiny/x"])
def test_another_name_is_404_and_the_message_says_that_any_name_draws(client: FlaskClient, path: str) -> None:
    answer = client.get(f"/v1/models/{path}")
    assert answer.status_code == 404
    error = answer.get_json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")
    assert "Tiny is, and draws whatever model" in error["message"]
