from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from server.config.settings import Settings
from tests.conftest import MakeClient
from tests.decoding import Events, events_in, open_base64


def stream(client: FlaskClient, **fields: Any) -> Events:
    answer = client.post("/dalle", data=json.dumps({"text": "a red circle", "stream": True, **fields}))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    return events_in(answer.text)


def of_kind(kind: str, events: Events) -> list[dict[str, Any]]:
    return [data for name, data in events if name == kind]


def test_progress_and_previews_come_before_each_image_and_done_at_the_end(client: FlaskClient) -> None:
    events = stream(client, num_images=2, seed=7)
    assert events[-1] == ("done", {"seeds": [7, 8], "model": "Tiny", "generatedImgsFormat": "jpeg"})
    for index in range(2):
        of_image = [(name, data) for name, data in events if data.get("index") == index]
        assert [name for name, _ in of_image].index("image") == len(of_image) - 1
        percents = [data["percent"] for name, data in of_image if name == "progress"]
        assert percents == sorted(percents) and percents[-1] == 100
        previews = of_kind("preview", of_image)
        assert [data["percent"] for data in previews] == [12, 25, 37, 50, 62, 75, 87]
        assert all((data["format"], open_base64(data["image"]).format) == ("jpeg", "JPEG") for data in previews)


def test_the_images_are_the_same_as_without_a_stream(client: FlaskClient) -> None:
    images = of_kind("image", stream(client, num_images=2, seed=7, img_format="png"))
    plain = client.post("/dalle", json={"text": "a red circle", "num_images": 2, "seed": 7, "img_format": "png"}).get_json()
    assert {data["index"]: data["image"] for data in images} == dict(enumerate(plain["generatedImgs"]))
    assert {data["index"]: data["seed"] for data in images} == {0: 7, 1: 8}
    assert {data["format"] for data in images} == {"png"}


def test_without_previews_there_are_none(client: FlaskClient) -> None:
    events = stream(client, previews=False)
    assert of_kind("preview", events) == []
    assert len(of_kind("image", events)) == 1


@pytest.mark.parametrize("kind", ["grid", "seamless"])
def test_a_sheet_of_all_images_comes_once_at_the_end(client: FlaskClient, kind: str) -> None:
    events = stream(client, num_images=4, seed=1, img_format="png", **{kind: True})
    assert [name for name, _ in events[-2:]] == ["image", "done"]
    [image] = of_kind("image", events)
    assert (image["index"], image["seed"], open_base64(image["image"]).size) == (0, 1, (512, 512))
    assert events[-1][1]["seeds"] == [1, 2, 3, 4]
    plain = client.post("/dalle", json={"text": "a red circle", "num_images": 4, "seed": 1, "img_format": "png", kind: True})
    assert plain.get_json()["generatedImgs"] == [image["image"]]


def test_streamed_images_are_saved_and_a_failure_to_save_is_a_warning(make_client: MakeClient, settings: Settings) -> None:
    assert "warnings" not in stream(make_client(save_to_disk=True), num_images=2, previews=False)[-1][1]
    assert sorted(path.name for path in Path(settings.output_dir).glob("*/*")) == ["0.jpeg", "1.jpeg"]
    blocked = settings.output_dir.parent / "file"
    blocked.write_bytes(b"")
    events = stream(make_client(save_to_disk=True, output_dir=blocked), previews=False)
    assert len(of_kind("image", events)) == 1
    assert len(events[-1][1]["warnings"]) == 1
