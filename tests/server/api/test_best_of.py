"""`best_of` in every dialect: one picture, one score, the same in each."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from server.config.settings import Settings
from server.images.metadata import read_metadata
from tests.conftest import MakeClient

FIELDS = {"seed": 5, "best_of": 3}
CLASSIC = {"text": "a red circle", "img_format": "png", **FIELDS}


def pixels(encoded: str) -> bytes:
    with Image.open(BytesIO(base64.b64decode(encoded))) as image:
        return image.tobytes()


def events(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix(b"data: ")) for line in body.splitlines() if line.startswith(b"data: ")]


def test_every_dialect_answers_the_likeliest_picture_and_its_score(client: FlaskClient) -> None:
    classic = client.post("/dalle", json=CLASSIC).get_json()
    openai = client.post("/v1/images/generations", json={"prompt": "a red circle", **FIELDS}).get_json()["data"][0]
    fields = {"prompt": "a red circle", "width": 256, "height": 256, **FIELDS}
    a1111 = client.post("/sdapi/v1/txt2img", json=fields).get_json()
    [score] = classic["scores"]
    assert score < 0
    assert openai["score"] == json.loads(a1111["info"])["scores"][0] == score
    assert pixels(classic["generatedImgs"][0]) == pixels(openai["b64_json"]) == pixels(a1111["images"][0])
    assert classic["seeds"] == [5]


@pytest.mark.parametrize(
    ("path", "fields"), [("/dalle", CLASSIC), ("/v1/images/generations", {"prompt": "a red circle", **FIELDS})]
)
def test_a_streamed_image_has_its_score(client: FlaskClient, path: str, fields: dict[str, Any]) -> None:
    scores = client.post("/dalle", json=CLASSIC).get_json()["scores"]
    streamed = events(client.post(path, json={**fields, "stream": True}).data)
    assert [event["score"] for event in streamed if "score" in event] == scores
    if path == "/dalle":
        assert streamed[-1]["scores"] == scores


def test_one_candidate_has_no_score(client: FlaskClient) -> None:
    assert "scores" not in client.post("/dalle", json={**CLASSIC, "best_of": 1}).get_json()
    openai = client.post("/v1/images/generations", json={"prompt": "a red circle", "best_of": 1}).get_json()["data"][0]
    assert "score" not in openai


def test_a_saved_file_has_the_score_and_what_draws_it_again(make_client: MakeClient, settings: Settings) -> None:
    client = make_client(save_to_disk=True)
    scores = client.post("/dalle", json=CLASSIC).get_json()["scores"]
    [file] = settings.output_dir.glob("*/0.png")
    metadata = read_metadata(file.read_bytes())
    assert [metadata.score] == scores
    assert (metadata.seeds, metadata.settings.best_of) == ((5,), 3)


@pytest.mark.parametrize("path", ["/dalle", "/v1/images/generations", "/sdapi/v1/txt2img"])
@pytest.mark.parametrize("value", [0, 17, "many", True])
def test_another_value_is_refused(client: FlaskClient, path: str, value: object) -> None:
    answer = client.post(path, json={"text": "a star", "prompt": "a star", "best_of": value})
    assert answer.status_code == 400
    assert "best_of must be a whole number from 1 to 16" in answer.text
