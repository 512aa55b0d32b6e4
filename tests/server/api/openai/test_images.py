"""`POST /v1/images/generations` without a stream."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from consts import MAX_OPENAI_PROMPT_CHARACTERS
from dalle_model import DalleModel
from server.config.settings import Settings
from server.images.metadata import read_metadata
from tests.conftest import MakeClient
from tests.decoding import open_base64

ROUTE = "/v1/images/generations"


def draw(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(ROUTE, json={"prompt": "a red circle", **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.get_json()
    return body


def test_only_the_prompt_is_required(client: FlaskClient) -> None:
    before = int(time.time())
    answer = draw(client)
    assert set(answer) == {"created", "data", "background", "output_format", "size", "usage"}
    assert before <= answer["created"] <= time.time()
    assert (answer["background"], answer["output_format"], answer["size"]) == ("opaque", "png", "256x256")
    [item] = answer["data"]
    assert list(item) == ["b64_json", "seed"]
    image = open_base64(item["b64_json"])
    assert (image.format, image.size) == ("PNG", (256, 256))


def test_usage_counts_text_tokens_once_and_the_image_tokens_of_every_image(client: FlaskClient, tiny_model: DalleModel) -> None:
    read = tiny_model.count_text_tokens("a red circle")
    assert draw(client, n=2)["usage"] == {
        "input_tokens": read,
        "output_tokens": 512,
        "total_tokens": read + 512,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": read},
    }


@pytest.mark.parametrize("name", ["Tiny", "dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1.5", "owner/some-model", "", None])
def test_any_model_name_draws_with_the_loaded_model(client: FlaskClient, name: str | None) -> None:
    images = {"response_format": "b64_json", "seed": 4}
    assert draw(client, model=name, **images)["data"] == draw(client, **images)["data"]


def test_each_item_has_the_seed_that_draws_it_again_on_either_route(client: FlaskClient) -> None:
    first, second = draw(client, n=2, seed=7)["data"]
    assert (first["seed"], second["seed"]) == (7, 8)
    assert draw(client, seed=8)["data"] == [second]
    classic = client.post("/dalle", json={"text": "a red circle", "seed": 8, "img_format": "png"}).get_json()
    assert open_base64(second["b64_json"]).tobytes() == open_base64(classic["generatedImgs"][0]).tobytes()


@pytest.mark.parametrize("size", ["auto", "256x256", "512x512", "1024x1024", "1536x1024", "1024x1536", "1792x1024", "1024x1792"])
def test_an_image_has_exactly_the_requested_size(client: FlaskClient, size: str) -> None:
    answer = draw(client, size=size)
    assert answer["size"] == size.replace("auto", "256x256")
    assert open_base64(answer["data"][0]["b64_json"]).size == tuple(map(int, answer["size"].split("x")))


@pytest.mark.parametrize(
    ("requested", "answered"), [("png", "png"), ("jpeg", "jpeg"), ("webp", "webp"), ("jpg", "jpeg"), ("PNG", "png")]
)
def test_an_image_has_the_requested_format(client: FlaskClient, requested: str, answered: str) -> None:
    answer = draw(client, output_format=requested)
    assert answer["output_format"] == answered
    assert open_base64(answer["data"][0]["b64_json"]).format == answered.upper()


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_compression_makes_a_file_smaller(client: FlaskClient, output_format: str) -> None:
    sizes = [
        len(draw(client, seed=1, output_format=output_format, **more)["data"][0]["b64_json"])
        for more in ({"output_compression": 0}, {"output_compression": 50}, {"output_compression": 100}, {})
    ]
    assert sizes[0] < sizes[1] < sizes[2] == sizes[3]


def test_png_loses_nothing_at_any_compression(client: FlaskClient) -> None:
    assert draw(client, seed=1, output_compression=0)["data"] == draw(client, seed=1)["data"]


def test_sampling_settings_reach_the_model(client: FlaskClient) -> None:
    def drawn(**fields: Any) -> Any:
        return draw(client, seed=5, **fields)["data"]

    greedy = drawn(top_k=1)
    assert greedy == drawn(top_k=1, temperature=2.0)
    assert drawn(temperature=5.0, top_k=16384) != greedy
    assert drawn(top_k=1, supercondition_factor=0) == drawn(top_k=1, guidance=0) != greedy


def test_fields_without_effect_are_ignored_whatever_their_value(client: FlaskClient) -> None:
    without = draw(client, seed=6)["data"]
    values: list[Any] = ["hd", None, 5, {"a": []}]
    for value in values:
        fields = dict.fromkeys(("quality", "moderation", "style", "user", "safety_identifier", "unheard_of"), value)
        assert draw(client, seed=6, **fields)["data"] == without


def test_null_means_the_default(client: FlaskClient) -> None:
    names = ["model", "n", "size", "response_format", "output_format", "output_compression", "quality", "background"]
    names += ["stream", "partial_images", "seed", "temperature", "top_k", "supercondition_factor", "guidance"]
    assert list(draw(client, **dict.fromkeys(names))) == list(draw(client))


def test_an_opaque_background_is_accepted(client: FlaskClient) -> None:
    for background in ("opaque", "auto"):
        assert draw(client, background=background)["background"] == "opaque"


def test_of_the_longest_prompt_the_model_reads_64_tokens(client: FlaskClient) -> None:
    longest = "red circle " * 3000
    assert draw(client, prompt=longest[:MAX_OPENAI_PROMPT_CHARACTERS])["usage"]["input_tokens"] == 64
    refused = client.post(ROUTE, json={"prompt": longest[: MAX_OPENAI_PROMPT_CHARACTERS + 1]})
    assert refused.status_code == 400
    assert refused.get_json()["error"]["message"] == (
        "prompt must be a string of 1 to 32000 characters that is not blank, not 32001 characters"
    )


BAD_FIELDS: list[tuple[str, Any, str]] = [
    ("prompt", None, "prompt is required"),
    ("prompt", " ", "not blank"),
    ("n", 0, "a whole number from 1 to 10, not 0"),
    ("n", 99, "a whole number from 1 to 10, not 99"),
    ("n", "two", 'not "two"'),
    ("model", 5, "the loaded model draws, whatever the name"),
    ("size", "big", '"auto" or "<width>x<height>", each side 16 to 2048, not "big"'),
    ("size", "4096x4096", "16 to 2048"),
    ("response_format", "svg", '"b64_json" or "url"'),
    ("output_format", "gif", 'png, jpeg or webp, not "gif"'),
    ("output_compression", 101, "from 0 to 100"),
    ("background", "transparent", "these models draw no transparency: leave it out"),
    ("stream", "yes", "true or false"),
    ("partial_images", 4, "from 0 to 3"),
    ("guidance", "x", "from 0.0 to 100.0"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD_FIELDS)
def test_a_bad_value_is_refused_in_openais_shape(client: FlaskClient, field: str, value: Any, message: str) -> None:
    answer = client.post(ROUTE, json={"prompt": "a red circle", field: value})
    assert answer.status_code == 400
    assert answer.headers["X-Request-Id"]
    error = answer.get_json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", field, "invalid_value")
    assert message in error["message"]


def test_a_body_that_is_not_json_is_refused_with_an_example_that_works(client: FlaskClient) -> None:
    error = client.post(ROUTE, data=b"prompt=a").get_json()["error"]
    assert '{"prompt": "a red circle"}' in error["message"]
    assert error["param"] is None


@pytest.mark.parametrize("route", ["/v1/images/edits", "/v1/images/variations"])
def test_edits_and_variations_name_the_route_to_use(client: FlaskClient, route: str) -> None:
    answer = client.post(route, data={"image": (BytesIO(b"\x89PNG"), "image.png"), "prompt": "a hat"})
    assert answer.status_code == 400
    error = answer.get_json()["error"]
    assert error["code"] == "not_supported"
    assert route in error["message"] and "POST /v1/images/generations" in error["message"]


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_images_are_saved_as_answered_with_the_longest_prompt_cut_short(
    make_client: MakeClient, settings: Settings, output_format: str
) -> None:
    saving = make_client(save_to_disk=True)
    prompt = "\N{GRINNING FACE}" * (MAX_OPENAI_PROMPT_CHARACTERS if output_format == "png" else 5000)
    answer = draw(saving, n=2, seed=3, size="64x32", output_format=output_format, prompt=prompt)
    (warning,) = answer["warnings"]  # none that saving failed
    assert "64 tokens" in warning
    saved = sorted(Path(settings.output_dir).glob(f"*/*.{output_format}"))
    assert [read_metadata(path.read_bytes()).seeds for path in saved] == [(3,), (4,)]
    assert read_metadata(saved[0].read_bytes()).prompt == prompt[:4000]
    with Image.open(saved[0]) as image:
        assert image.size == (64, 32)
