"""What of a prompt has no effect is told in every dialect's answer."""

from __future__ import annotations

import json

import pytest
from flask.testing import FlaskClient

from dalle_model import DalleModel
from engine.weights.known_words import KnownWords

PROMPT = "a helicoptering cat"
THINGS = {name: () for name in ("cat", "dog", "rocket")}
WARNING = 'Tiny does not know "helicoptering". It draws 3 things, such as cat, dog, rocket; its model card lists them.'


@pytest.fixture(autouse=True)
def _list(tiny_model: DalleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model, "known_words", KnownWords({"things": THINGS, "colours": {"red": ()}}))


def test_each_dialect_tells_unknown_words(client: FlaskClient) -> None:
    assert client.post("/dalle", json={"text": PROMPT}).get_json()["warnings"] == [WARNING]
    assert client.post("/v1/images/generations", json={"prompt": PROMPT}).get_json()["warnings"] == [WARNING]
    info = client.post("/sdapi/v1/txt2img", json={"prompt": PROMPT}).get_json()["info"]
    assert json.loads(info)["warnings"] == [WARNING]


def test_the_end_of_a_stream_tells_unknown_words(client: FlaskClient) -> None:
    last = client.post("/dalle", json={"text": PROMPT, "stream": True}).text.strip().splitlines()[-1]
    assert json.loads(last.removeprefix("data: "))["warnings"] == [WARNING]


def test_a_prompt_of_known_words_has_no_warning(client: FlaskClient) -> None:
    assert "warnings" not in client.post("/dalle", json={"text": "cats"}).get_json()


def test_a_prompt_that_is_too_long_has_a_warning(client: FlaskClient) -> None:
    (warning,) = client.post("/dalle", json={"text": "red " * 80}).get_json()["warnings"]
    assert warning == "Tiny reads 64 tokens of a prompt, and this one has as many or more: words at its end may have no effect."


@pytest.mark.parametrize(
    ("fields", "slips"),
    [
        ({"n": 2, "prompt": "a dog"}, {"n": "num_images", "prompt": "text"}),
        ({"sed": 7, "Num_Image": 2}, {"sed": "seed", "Num_Image": "num_images"}),
        (
            {"temprature": 0.5, "steps": 20, "user": "me", "quality": "hd", "style": None, "x" * 1000: 1},
            {"temprature": "temperature"},
        ),
    ],
)
def test_a_field_that_is_nearly_a_known_one_is_told(
    client: FlaskClient, fields: dict[str, object], slips: dict[str, str]
) -> None:
    answer = client.post("/dalle", json={"text": "cats", **fields}).get_json()
    assert len(answer["generatedImgs"]) == 1
    expected = {f'The field "{slip}" is unknown and was ignored: did you mean "{name}"?' for slip, name in slips.items()}
    assert set(answer["warnings"]) == expected


def test_openais_route_tells_a_field_that_is_nearly_known_too(client: FlaskClient) -> None:
    answer = client.post("/v1/images/generations", json={"prompt": "cats", "background": "auto", "response_fromat": "url"})
    (warning,) = answer.get_json()["warnings"]
    assert warning.endswith('did you mean "response_format"?')
