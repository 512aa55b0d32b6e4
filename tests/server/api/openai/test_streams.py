"""The stream of `POST /v1/images/generations`, event by event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from dalle_model import DalleModel, GenerationFailed, Preview
from server.api.errors import explain
from server.api.openai.answer import ImagesWriter
from server.api.openai.schemas import ImagesRequest, preview_positions
from server.config.settings import Settings
from tests.conftest import MakeClient
from tests.decoding import Events, events_in, open_base64

ROUTE = "/v1/images/generations"
PARTIAL, COMPLETED = "image_generation.partial_image", "image_generation.completed"


def stream(client: FlaskClient, **fields: Any) -> Events:
    answer = client.post(ROUTE, json={"prompt": "a red circle", "stream": True, **fields}, headers={"Accept": "application/json"})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["X-Request-Id"]
    return events_in(answer.text)


@pytest.fixture
def writer(tiny_model: DalleModel) -> ImagesWriter:
    """Return the writer of a stream with three partial images."""
    body = ImagesRequest(prompt="a red circle", partial_images=3)
    with tiny_model.start(body.drawing_request(tiny_model.sampling)) as drawing:
        return ImagesWriter(drawing, body, 5, None, (), lambda *_: [])


@pytest.mark.parametrize(("count", "positions"), [(0, ()), (1, (128,)), (2, (96, 160)), (3, (64, 128, 192))])
def test_partial_images_are_spread_evenly(count: int, positions: tuple[int, ...]) -> None:
    assert preview_positions(count) == positions


@pytest.mark.parametrize("count", [0, 1, 2, 3, None])
def test_the_requested_number_of_partial_images_comes_before_the_finished_one(client: FlaskClient, count: int | None) -> None:
    events = stream(client, partial_images=count)
    assert [name for name, _ in events] == [PARTIAL] * (count or 0) + [COMPLETED]
    assert [data["partial_image_index"] for _, data in events[:-1]] == list(range(count or 0))


def test_partial_images_are_numbered_without_gaps_if_the_engine_skips_previews(writer: ImagesWriter) -> None:
    """A busy engine shows only the newest preview of an image."""
    drawn = Image.new("RGB", (256, 256))
    previews = [Preview(0, 64, drawn), Preview(1, 192, drawn), Preview(0, 192, drawn)]
    sent = events_in(b"".join(frame for preview in previews for frame in writer.write(preview)).decode())
    assert [(data["index"], data["partial_image_index"]) for _, data in sent] == [(0, 0), (1, 0), (0, 1)]


def test_events_have_openais_fields(client: FlaskClient, tiny_model: DalleModel) -> None:
    (partial_name, partial), (completed_name, completed) = stream(client, partial_images=1, seed=9)
    common = {"created_at": partial["created_at"], "size": "256x256", "quality": "auto", "background": "opaque"}
    common |= {"output_format": "png", "index": 0}
    assert isinstance(partial["created_at"], int)
    assert partial == {**common, "type": partial_name, "b64_json": partial["b64_json"], "partial_image_index": 0}
    text_tokens = tiny_model.count_text_tokens("a red circle")
    usage = {"input_tokens": text_tokens, "output_tokens": 256, "total_tokens": text_tokens + 256}
    usage["input_tokens_details"] = {"image_tokens": 0, "text_tokens": text_tokens}  # type: ignore[assignment]
    assert completed == {**common, "type": completed_name, "b64_json": completed["b64_json"], "seed": 9, "usage": usage}


def test_the_finished_image_is_the_same_as_without_a_stream(client: FlaskClient) -> None:
    (_, completed), *_ = stream(client, seed=3)
    plain = client.post(ROUTE, json={"prompt": "a red circle", "seed": 3}).get_json()
    assert completed["b64_json"] == plain["data"][0]["b64_json"]
    assert completed["usage"] == plain["usage"]


def test_each_of_several_images_has_its_own_events_and_the_usage_adds_up(client: FlaskClient) -> None:
    events = stream(client, n=3, partial_images=2, seed=5)
    finished = [data for name, data in events if name == COMPLETED]
    assert sorted((data["index"], data["seed"]) for data in finished) == [(0, 5), (1, 6), (2, 7)]
    shown = [(data["index"], data["partial_image_index"]) for name, data in events if name == PARTIAL]
    assert sorted(shown) == [(index, part) for index in range(3) for part in range(2)]
    plain = client.post(ROUTE, json={"prompt": "a red circle", "n": 3}).get_json()["usage"]
    for key in ("input_tokens", "output_tokens", "total_tokens"):
        assert sum(data["usage"][key] for data in finished) == plain[key]


def test_every_image_has_the_requested_size_and_format(client: FlaskClient) -> None:
    events = stream(client, partial_images=1, size="512x256", output_format="webp")
    for _, data in events:
        assert (data["size"], data["output_format"]) == ("512x256", "webp")
        image = open_base64(data["b64_json"])
        assert (image.size, image.format) == ((512, 256), "WEBP")


def test_a_stream_has_base64_even_if_urls_are_requested(client: FlaskClient) -> None:
    assert open_base64(stream(client, response_format="url")[0][1]["b64_json"]).size == (256, 256)


def test_a_failure_during_a_stream_is_an_error_event_in_openais_shape(writer: ImagesWriter, app: Flask) -> None:
    with app.test_request_context(ROUTE):
        [(name, data)] = events_in(writer.fail(explain(GenerationFailed("secret"))).decode())
    message = data["error"]["message"]
    assert (name, data["type"]) == ("error", "error")
    assert data["error"] == {"message": message, "type": "server_error", "param": None, "code": None}
    assert "secret" not in message


def test_streamed_images_are_saved_too(make_client: MakeClient, settings: Settings) -> None:
    stream(make_client(save_to_disk=True), n=2, output_format="jpeg")
    assert sorted(path.name for path in Path(settings.output_dir).glob("*/*")) == ["0.jpeg", "1.jpeg"]
