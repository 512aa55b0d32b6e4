from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consts import MAX_PROMPT_CHARACTERS, MAX_SEED, ImageFormat
from dalle_model import InvalidRequest, SamplingSettings
from server.api.body import read_body
from server.api.classic.schemas import DalleRequest
from server.api.drawing_body import with_image_limit

MAX_IMAGES = 10
BODY = with_image_limit(DalleRequest, "num_images", MAX_IMAGES)


def parse(**fields: Any) -> Any:
    return read_body(BODY, json.dumps({"text": "a red circle", **fields}).encode())


def test_only_the_text_is_required() -> None:
    body = read_body(BODY, b'{"text": "  a red circle\\n"}')
    assert (body.text, body.num_images, body.grid, body.seamless, body.stream) == ("a red circle", 1, False, False, False)
    assert (body.seed, body.temperature, body.top_k, body.supercondition_factor, body.img_format) == (None,) * 5


def test_every_field_is_read() -> None:
    sampling = {"seed": 7, "temperature": 0.5, "top_k": 64, "supercondition_factor": 3.0}
    fields = {"num_images": 3, **sampling, "img_format": "png", "grid": True, "seamless": True}
    assert parse(**fields).model_dump().items() >= {**fields, "img_format": ImageFormat.PNG}.items()


def test_null_means_the_default() -> None:
    assert parse(**dict.fromkeys(BODY.model_fields.keys() - {"text"})) == parse()


def test_unknown_fields_are_ignored() -> None:
    assert parse(steps=50, model={"name": "x"}) == parse()


def test_the_last_of_repeated_fields_wins() -> None:
    assert read_body(BODY, b'{"text": "a", "text": "b"}').text == "b"


def test_a_whole_number_may_be_written_with_a_point() -> None:
    body = parse(num_images=3.0, seed=7.0, top_k=64.0)
    assert (body.num_images, body.seed, body.top_k) == (3, 7, 64)
    assert isinstance(body.seed, int)


def test_guidance_is_another_name_for_supercondition_factor() -> None:
    assert parse(guidance=5).sampling(SamplingSettings()).supercondition_factor == 5.0
    assert parse(guidance=5, supercondition_factor=6).sampling(SamplingSettings()).supercondition_factor == 6.0


def test_the_ends_of_every_range_are_accepted() -> None:
    parse(text="x", num_images=1, seed=0, temperature=0.01, top_k=1, supercondition_factor=0)
    greatest = {"num_images": MAX_IMAGES, "seed": MAX_SEED, "temperature": 100, "top_k": 16384, "supercondition_factor": 100}
    parse(text="x" * MAX_PROMPT_CHARACTERS, **greatest)


BAD_FIELDS: list[tuple[str, Any, str]] = [
    ("text", "", "a string of 1 to 4000 characters"),
    ("text", " \n\t", "not blank"),
    ("text", "x" * (MAX_PROMPT_CHARACTERS + 1), "not 4001 characters"),
    ("text", 5, "not 5"),
    ("text", ["a"], "not an array"),
    ("num_images", True, "a whole number from 1 to 10, not true"),
    ("num_images", "four", 'not "four"'),
    ("num_images", "2.5", 'not "2.5"'),
    ("num_images", 3.5, "not 3.5"),
    ("num_images", 1e300, "from 1 to 10"),
    ("num_images", 0, "not 0"),
    ("num_images", -1, "not -1"),
    ("num_images", MAX_IMAGES + 1, "from 1 to 10, not 11"),
    ("num_images", 10**30, "from 1 to 10"),
    ("seed", -2, f"from 0 to {MAX_SEED}, or -1 for a random one"),
    ("seed", MAX_SEED + 1, f"from 0 to {MAX_SEED}"),
    ("seed", 1.5, "a whole number"),
    ("seed", False, "a whole number"),
    ("temperature", 0, "a number from 0.01 to 100.0"),
    ("temperature", 100.1, "a number from 0.01 to 100.0"),
    ("temperature", "hot", "a number"),
    ("temperature", True, "a number"),
    ("temperature", 10**400, "a number"),
    ("top_k", 0, "from 1 to 16384"),
    ("top_k", 16385, "from 1 to 16384"),
    ("top_k", 2.5, "a whole number"),
    ("supercondition_factor", -0.1, "from 0.0 to 100.0"),
    ("supercondition_factor", 101, "from 0.0 to 100.0"),
    ("guidance", {}, "not an object"),
    ("img_format", "gif", "jpeg, png or webp"),
    ("img_format", 3, "jpeg, png or webp"),
    ("grid", 1, "true or false"),
    ("seamless", "yes", "true or false"),
    ("stream", "true", "true or false"),
    ("previews", 0, "true or false"),
    ("text", "\x1c", "not blank"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD_FIELDS)
def test_the_error_names_the_field_and_its_accepted_values(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**{field: value})
    assert refused.value.field == field
    assert refused.value.message.startswith(field)
    assert message in refused.value.message


@pytest.mark.parametrize("body", [b"{}", b'{"text": null}', b'{"num_images": 2}'])
def test_a_missing_text_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="text is required") as refused:
        read_body(BODY, body)
    assert refused.value.field == "text"


@pytest.mark.parametrize("name", ["prompt", "txt"])
def test_a_missing_text_under_another_name_is_told(name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf'text is required: .*\(the field "{name}" is unknown: did you mean "text"\?\)'):
        read_body(BODY, json.dumps({name: "a cat", "x" * 5000: 1}).encode())


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    ("field", "accepted"),
    [("temperature", "a number from"), ("num_images", "a whole number from 1"), ("grid", "true or false"), ("odd", "JSON")],
)
def test_the_error_names_the_field_of_a_number_that_is_not_finite(field: str, accepted: str, literal: str) -> None:
    with pytest.raises(InvalidRequest, match="NaN and Infinity are not JSON") as refused:
        read_body(BODY, f'{{"text": "a", "{field}": {literal}}}'.encode())
    assert refused.value.field == field
    assert refused.value.message.startswith(f"{field} must be {accepted}")


def test_the_error_names_the_field_of_a_number_too_large_for_a_float() -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_body(BODY, b'{"text": "a", "temperature": 1e999}')
    assert refused.value.field == "temperature"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"text=a+red+circle",
        b"{'text': 'a'}",
        b'{"text": "a",}',
        b'{"text": "a"} {"text": "b"}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": "a", "nested": [NaN]}',
        b"[" * 100_000,
        b'{"text": "a", "seed": ' + b"9" * 10_000 + b"}",
        *(b'["a"]', b'"a"', b"5", b"null", b"true"),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object") as refused:
        read_body(BODY, body)
    assert refused.value.field is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*BODY.model_fields]), JSON_VALUES))
def test_any_values_are_within_the_ranges_or_refused(fields: dict[str, Any]) -> None:
    try:
        body = read_body(BODY, json.dumps(fields).encode())
    except InvalidRequest as refused:
        assert refused.message
        return
    assert 1 <= len(body.text) <= MAX_PROMPT_CHARACTERS
    assert 1 <= body.num_images <= MAX_IMAGES
