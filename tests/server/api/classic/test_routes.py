from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from consts import MAX_BODY_BYTES
from dalle_model import DalleModel
from tests.decoding import open_base64

ROUTES: list[tuple[str, dict[str, Any], str]] = [
    ("/dalle", {"text": "a red circle"}, "num_images"),
    ("/v1/images/generations", {"prompt": "a red circle"}, "n"),
]


def draw(client: FlaskClient, route: str = "/dalle", **fields: Any) -> dict[str, Any]:
    """Draw as the old clients do, with a body that has no content type."""
    answer = client.post(route, data=json.dumps({"text": "a red circle", **fields}))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.get_json()
    return body


def test_the_answer_has_the_names_of_both_forks(client: FlaskClient, tiny_model: DalleModel) -> None:
    answer = draw(client, num_images=2, seed=7)
    assert list(answer) == ["generatedImgs", "generatedImages", "generatedImgsFormat", "seeds", "model"]
    assert answer["generatedImgs"] == answer["generatedImages"]
    assert answer["generatedImgsFormat"] == "jpeg"
    assert answer["seeds"] == [7, 8]
    assert answer["model"] == tiny_model.name == "Tiny"
    for image in answer["generatedImgs"]:
        assert (open_base64(image).format, open_base64(image).size) == ("JPEG", (256, 256))


@pytest.mark.parametrize(("path", "body", "count"), ROUTES)
@pytest.mark.parametrize("stream", [False, True])
def test_seeds_above_the_greatest_are_refused(
    client: FlaskClient, path: str, body: dict[str, Any], count: str, stream: bool
) -> None:
    answer = client.post(path, json={**body, count: 4, "seed": 2**63 - 3, "stream": stream})
    assert answer.status_code == 400
    assert "seed must leave room for 4 images" in answer.get_json()["error"]["message"]


def test_without_a_seed_two_requests_differ(client: FlaskClient) -> None:
    assert draw(client)["seeds"] != draw(client)["seeds"]


def test_generate_is_the_same_route(client: FlaskClient) -> None:
    assert draw(client, "/generate", seed=3) == draw(client, "/dalle", seed=3)


@pytest.mark.parametrize(
    ("requested", "answered"), [("PNG", "png"), ("JPEG", "jpeg"), ("jpg", "jpeg"), ("Jpg", "jpeg"), ("WebP", "webp")]
)
def test_a_format_is_read_in_any_case(client: FlaskClient, requested: str, answered: str) -> None:
    answer = draw(client, img_format=requested)
    assert answer["generatedImgsFormat"] == answered
    assert open_base64(answer["generatedImgs"][0]).format == answered.upper()


@pytest.mark.parametrize(("kind", "count"), [("grid", 3), ("seamless", 4)])
def test_a_grid_or_seamless_picture_is_one_image_with_all_seeds(client: FlaskClient, kind: str, count: int) -> None:
    answer = draw(client, "/dalle", num_images=count, seed=1, **{kind: True})
    assert [open_base64(image).size for image in answer["generatedImgs"]] == [(512, 512)]
    assert answer["seeds"] == [1, 2, 3, 4][:count]


def test_sampling_settings_reach_the_model(client: FlaskClient) -> None:
    def drawn(**fields: Any) -> Any:
        return draw(client, **{"seed": 5, "img_format": "png", **fields})["generatedImgs"]

    greedy = drawn(top_k=1)
    assert greedy == drawn(top_k=1, temperature=2.0)
    assert drawn(temperature=5.0, top_k=16384) != greedy
    assert drawn(top_k=1, supercondition_factor=0) != greedy


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", ""]
)
def test_any_content_type_is_accepted(client: FlaskClient, content_type: str) -> None:
    for path, body, _ in ROUTES:
        assert client.post(path, data=json.dumps(body), content_type=content_type).status_code == 200


def test_the_error_names_the_field(client: FlaskClient) -> None:
    answer = client.post("/dalle", data=b'{"text": "a", "num_images": 11}')
    assert answer.status_code == 400
    assert answer.get_json() == {
        "error": {"message": "num_images must be a whole number from 1 to 10, not 11", "field": "num_images"}
    }


def test_a_body_of_the_greatest_size_is_read_and_a_larger_one_refused(client: FlaskClient) -> None:
    body = b'{"text": ""}'
    assert client.post("/dalle", data=body.ljust(MAX_BODY_BYTES)).status_code == 400
    answer = client.post("/dalle", data=body.ljust(MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert "1048576 bytes" in answer.get_json()["error"]["message"]
