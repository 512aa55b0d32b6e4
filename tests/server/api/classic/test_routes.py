from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from consts import MAX_BODY_BYTES
from dalle_model import DalleModel


def draw(client: FlaskClient, route: str = "/dalle", **fields: Any) -> dict[str, Any]:
    """Ask as the old clients do: JSON without a JSON content type."""
    answer = client.post(route, data=json.dumps({"text": "a red circle", **fields}))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.get_json()
    return body


def opened(image: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(image, validate=True)))


def test_hello(client: FlaskClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.text) == (200, "hello world")


def test_the_answer_has_the_names_of_both_forks(client: FlaskClient, tiny_model: DalleModel) -> None:
    answer = draw(client, num_images=2, seed=7)
    assert list(answer) == ["generatedImgs", "generatedImages", "generatedImgsFormat", "seeds", "model"]
    assert answer["generatedImgs"] == answer["generatedImages"]
    assert answer["generatedImgsFormat"] == "jpeg"
    assert answer["seeds"] == [7, 8]
    assert answer["model"] == tiny_model.name == "Tiny"
    for image in answer["generatedImgs"]:
        assert (opened(image).format, opened(image).size) == ("JPEG", (256, 256))


def test_one_image_unless_more_are_asked_for(client: FlaskClient) -> None:
    assert len(draw(client)["generatedImgs"]) == 1


@pytest.mark.parametrize("path", ["/dalle", "/v1/images/generations"])
@pytest.mark.parametrize("stream", [False, True])
def test_seeds_past_the_last_are_refused(client: FlaskClient, path: str, stream: bool) -> None:
    words = {"text": "a red circle", "num_images": 4} if path == "/dalle" else {"prompt": "a red circle", "n": 4}
    answer = client.post(path, json={**words, "seed": 2**63 - 3, "stream": stream})
    assert answer.status_code == 400
    assert "seed must leave room for 4 images" in answer.get_json()["error"]["message"]


def test_without_a_seed_two_requests_differ(client: FlaskClient) -> None:
    assert draw(client)["seeds"] != draw(client)["seeds"]


def test_a_seed_gives_the_same_image_again(client: FlaskClient) -> None:
    first, second = draw(client, seed=3, num_images=2), draw(client, seed=4)
    assert first["generatedImgs"][1] == second["generatedImgs"][0]


def test_generate_is_the_same_route(client: FlaskClient) -> None:
    assert draw(client, "/generate", seed=3) == draw(client, "/dalle", seed=3)


@pytest.mark.parametrize(("asked", "answered"), [("PNG", "png"), ("jpg", "jpeg"), ("WebP", "webp")])
def test_the_format_is_the_one_asked_for(client: FlaskClient, asked: str, answered: str) -> None:
    answer = draw(client, img_format=asked)
    assert answer["generatedImgsFormat"] == answered
    assert opened(answer["generatedImgs"][0]).format == answered.upper()


def test_a_grid_is_one_sheet_with_all_seeds(client: FlaskClient) -> None:
    answer = draw(client, grid=True, num_images=3, seed=1)
    assert [opened(image).size for image in answer["generatedImgs"]] == [(512, 512)]
    assert answer["seeds"] == [1, 2, 3]


def test_a_seamless_picture_is_one_with_all_seeds(client: FlaskClient) -> None:
    answer = draw(client, seamless=True, num_images=4, seed=1)
    assert [opened(image).size for image in answer["generatedImgs"]] == [(512, 512)]
    assert answer["seeds"] == [1, 2, 3, 4]


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
def test_any_content_type_will_do(client: FlaskClient, content_type: str) -> None:
    body = json.dumps({"text": "a red circle"})
    assert client.post("/dalle", data=body, content_type=content_type).status_code == 200


def test_a_bad_field_is_named(client: FlaskClient) -> None:
    answer = client.post("/dalle", data=b'{"text": "a", "num_images": 11}')
    assert answer.status_code == 400
    assert answer.get_json() == {
        "error": {"message": "num_images must be a whole number from 1 to 10, not 11", "field": "num_images"}
    }


def test_a_body_of_the_largest_size_is_read_and_a_larger_one_refused(client: FlaskClient) -> None:
    body = b'{"text": ""}'
    assert client.post("/dalle", data=body.ljust(MAX_BODY_BYTES)).status_code == 400
    answer = client.post("/dalle", data=body.ljust(MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert "1048576 bytes" in answer.get_json()["error"]["message"]
