"""Hold the stream of POST /v1/images/generations to the contract, event by event."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from dalle_model import DalleModel, Drawing, Event, GenerationFailed, Preview, Queued
from server import create_app
from server.api.openai.answer import ImagesWriter
from server.api.openai.schemas import ImagesRequest, preview_positions
from server.config.settings import Settings
from tests.event_stream import Events, events_in

ROUTE = "/v1/images/generations"
PARTIAL, COMPLETED = "image_generation.partial_image", "image_generation.completed"


def stream(client: FlaskClient, **fields: Any) -> Events:
    answer = client.post(ROUTE, json={"prompt": "a red circle", "stream": True, **fields}, headers={"Accept": "application/json"})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["X-Request-Id"]
    return events_in(answer.text)


def opened(event: dict[str, Any]) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(event["b64_json"], validate=True)))


@pytest.mark.parametrize(("count", "positions"), [(0, ()), (1, (128,)), (2, (96, 160)), (3, (64, 128, 192))])
def test_partial_images_are_spread_evenly(count: int, positions: tuple[int, ...]) -> None:
    assert preview_positions(count) == positions


@pytest.mark.parametrize("count", [0, 1, 2, 3, None])
def test_so_many_partial_images_come_before_the_finished_one(client: FlaskClient, count: int | None) -> None:
    events = stream(client, partial_images=count)
    assert [name for name, _ in events] == [PARTIAL] * (count or 0) + [COMPLETED]
    assert [data["partial_image_index"] for _, data in events[:-1]] == list(range(count or 0))


def test_where_the_engine_leaves_previews_out_the_others_are_numbered_without_a_gap(tiny_model: DalleModel) -> None:
    """A busy engine shows only the newest of an image."""
    body = ImagesRequest(prompt="a red circle", partial_images=3)
    with tiny_model.start(body.drawing_request(tiny_model.sampling)) as drawing:
        writer = ImagesWriter(drawing, body, 5, None, lambda *_: [])
    drawn = Image.new("RGB", (256, 256))
    shown = [Preview(0, 64, drawn), Preview(1, 192, drawn), Preview(0, 192, drawn)]
    sent = events_in(b"".join(frame for preview in shown for frame in writer.write(preview)).decode())
    assert [(data["index"], data["partial_image_index"]) for _, data in sent] == [(0, 0), (1, 0), (0, 1)]


def test_the_events_have_the_contracts_keys(client: FlaskClient, tiny_model: DalleModel) -> None:
    (partial_name, partial), (completed_name, completed) = stream(client, partial_images=1, seed=9)
    common = {"created_at": partial["created_at"], "size": "256x256", "quality": "auto", "background": "opaque"}
    common |= {"output_format": "png", "index": 0}
    assert isinstance(partial["created_at"], int)
    assert partial == {**common, "type": partial_name, "b64_json": partial["b64_json"], "partial_image_index": 0}
    read = tiny_model.count_text_tokens("a red circle")
    usage = {"input_tokens": read, "output_tokens": 256, "total_tokens": read + 256}
    usage["input_tokens_details"] = {"image_tokens": 0, "text_tokens": read}  # type: ignore[assignment]
    assert completed == {**common, "type": completed_name, "b64_json": completed["b64_json"], "seed": 9, "usage": usage}


def test_the_finished_image_is_the_one_that_is_answered_without_a_stream(client: FlaskClient) -> None:
    (_, completed), *_ = stream(client, seed=3)
    plain = client.post(ROUTE, json={"prompt": "a red circle", "seed": 3}).get_json()
    assert completed["b64_json"] == plain["data"][0]["b64_json"]
    assert completed["usage"] == plain["usage"]


def test_of_several_images_each_has_its_own_events_and_the_usage_adds_up(client: FlaskClient) -> None:
    events = stream(client, n=3, partial_images=2, seed=5)
    finished = [data for name, data in events if name == COMPLETED]
    assert sorted((data["index"], data["seed"]) for data in finished) == [(0, 5), (1, 6), (2, 7)]
    shown = [(data["index"], data["partial_image_index"]) for name, data in events if name == PARTIAL]
    assert sorted(shown) == [(index, part) for index in range(3) for part in range(2)]
    plain = client.post(ROUTE, json={"prompt": "a red circle", "n": 3}).get_json()["usage"]
    for key in ("input_tokens", "output_tokens", "total_tokens"):
        assert sum(data["usage"][key] for data in finished) == plain[key]


def test_every_image_has_the_size_and_format_asked_for(client: FlaskClient) -> None:
    events = stream(client, partial_images=1, size="512x256", output_format="webp")
    for _, data in events:
        assert (data["size"], data["output_format"]) == ("512x256", "webp")
        assert (opened(data).size, opened(data).format) == ((512, 256), "WEBP")


def test_a_stream_has_base64_also_where_urls_were_asked_for(client: FlaskClient) -> None:
    assert opened(stream(client, response_format="url")[0][1]).size == (256, 256)


def test_a_refusal_before_the_first_event_has_a_status(client: FlaskClient) -> None:
    answer = client.post(ROUTE, json={"prompt": "a red circle", "stream": True, "n": 99})
    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"] == "n"


def test_a_failure_in_mid_stream_is_an_error_event_in_openais_shape(
    client: FlaskClient, tiny_model: DalleModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailingJob:
        def events(self, tick: float | None = None, *, progress: bool = True) -> Iterator[Event]:
            yield Queued(0)
            raise GenerationFailed("secret")

    monkeypatch.setattr(tiny_model, "start", lambda request: Drawing(request, "Tiny", FailingJob(), lambda: None))
    answer = client.post(ROUTE, json={"prompt": "a red circle", "stream": True})
    [(name, data)] = events_in(answer.text)
    assert name == "error"
    assert data["type"] == "error"
    assert list(data["error"]) == ["message", "type", "param", "code"]
    assert data["error"]["type"] == "server_error"
    assert answer.headers["X-Request-Id"] in data["error"]["message"]
    assert "secret" not in answer.text


def test_streamed_images_are_saved_too(tiny_model: DalleModel, settings: Settings) -> None:
    saving = create_app(tiny_model, replace(settings, save_to_disk=True)).test_client()
    stream(saving, n=2, output_format="jpeg")
    assert sorted(path.name for path in Path(settings.output_dir).glob("*/*")) == ["0.jpeg", "1.jpeg"]
