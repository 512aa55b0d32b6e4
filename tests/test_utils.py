from __future__ import annotations

import base64
import unicodedata
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from consts import MAX_SEED, ImageFormat, ModelSize
from utils import (
    encode_image,
    integer_between,
    make_grid,
    member_of,
    number_between,
    parse_base_url,
    parse_boolean,
    parse_image_format,
    parse_path,
    parse_prompt,
    slugify,
    to_base64,
)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("1", True), ("FALSE", False), (" no ", False)])
def test_booleans(text: str, value: bool) -> None:
    assert parse_boolean(text) is value


@pytest.mark.parametrize("text", ["", "maybe", "2"])
def test_invalid_booleans_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be true or false"):
        parse_boolean(text)


@pytest.mark.parametrize("text", ["1", "10", " 5 ", "+3"])
def test_integers_within_the_range(text: str) -> None:
    assert integer_between(1, 10)(text) == int(text)


@pytest.mark.parametrize("text", ["0", "11", "", "1.5", "1e1", "½", "1_0", "٣", "9" * 5000])
def test_integers_outside_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number from 1 to 10"):
        integer_between(1, 10)(text)


def test_the_greatest_seed_is_read() -> None:
    assert integer_between(0, MAX_SEED)(str(MAX_SEED)) == MAX_SEED


@pytest.mark.parametrize("text", ["0.5", " 1 ", "2", "5e-1"])
def test_numbers_within_the_range(text: str) -> None:
    assert number_between(0.5, 2)(text) == float(text)


@pytest.mark.parametrize("text", ["0.4", "2.1", "nan", "inf", "", "two"])
def test_numbers_outside_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a number from 0\.5 to 2"):
        number_between(0.5, 2)(text)


def test_a_prompt_is_not_blank_and_not_too_long() -> None:
    assert parse_prompt(3)(" abc ") == "abc"
    for text in ("", " ", "abcd"):
        with pytest.raises(ValueError, match="must"):
            parse_prompt(3)(text)


@pytest.mark.parametrize("text", ["mega_full", "MEGA_FULL", "Mega_full"])
def test_names_are_read_in_any_case(text: str) -> None:
    assert member_of(ModelSize)(text) is ModelSize.MEGA_FULL


def test_jpg_is_jpeg() -> None:
    assert parse_image_format("JPG") is ImageFormat.JPEG


def test_a_path_may_start_at_home_and_has_no_nul() -> None:
    assert parse_path("~/images") == Path.home() / "images"
    with pytest.raises(ValueError, match="NUL"):
        parse_path("a\0b")


@pytest.mark.parametrize("image_format", ImageFormat)
def test_images_are_encoded_in_every_format(image_format: ImageFormat) -> None:
    data = base64.b64decode(to_base64(encode_image(Image.new("RGB", (8, 8), "red"), image_format)))
    with Image.open(BytesIO(data)) as image:
        assert image.format == image_format.name
        red, green, blue = image.convert("RGB").resize((1, 1)).tobytes()
    assert red > 250 > 5 > max(green, blue)


@pytest.mark.parametrize(
    ("prompt", "slug"),
    [
        ("A red circle, please!", "a-red-circle-please"),
        ("Crème brûlée", "crème-brûlée"),
        ("Cre\u0300me", "crème"),
        ("日本語の丸", "日本語の丸"),
        ("a\ud7ff_b: c?", "a-b-c"),
        ("दिल " * 30, "दिल-दिल-दिल-दिल-दिल-दिल"),
        ("../../etc/passwd", "etc-passwd"),
        ("🦊", "image"),
        ("", "image"),
    ],
)
def test_slugs(prompt: str, slug: str) -> None:
    assert slugify(prompt) == slug


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("ab " * 2000)
@example("丸" * 100)
def test_a_slug_is_short_and_plain(prompt: str) -> None:
    slug = slugify(prompt)
    assert slug and not slug.startswith("-") and not slug.endswith("-") and "--" not in slug
    assert all(char == "-" or unicodedata.category(char)[0] in "LMN" for char in slug)
    assert len(slug.encode()) <= 60


@pytest.mark.parametrize(
    ("count", "columns", "size"),
    [(1, None, (4, 4)), (2, None, (8, 4)), (3, None, (8, 8)), (9, None, (12, 12)), (4, 4, (16, 4)), (5, 1, (4, 20))],
)
def test_a_grid_is_as_square_as_possible(count: int, columns: int | None, size: tuple[int, int]) -> None:
    assert make_grid([Image.new("RGB", (4, 4))] * count, columns).size == size


def test_a_grid_is_filled_row_by_row_and_the_rest_is_white() -> None:
    grid = make_grid([Image.new("RGB", (1, 1), colour) for colour in ("red", "lime", "blue")])
    assert grid.tobytes() == bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255])


@pytest.mark.parametrize(("count", "columns"), [(0, None), (1, 0)])
def test_a_grid_of_nothing_is_refused(count: int, columns: int | None) -> None:
    with pytest.raises(ValueError, match="at least one"):
        make_grid([Image.new("RGB", (4, 4))] * count, columns)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://images.example.org", "https://images.example.org"),
        (" http://localhost:8000/dalle/ ", "http://localhost:8000/dalle"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_base_urls_are_read_without_a_slash_at_the_end(text: str, url: str) -> None:
    assert parse_base_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org",
        "ftp://a",
        "https://",
        "https:///x",
        "http://a:99999",
        "http://a/?b",
        "http://a#b",
        "http://a b",
        "http://[",
    ],
)
def test_invalid_base_urls_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an address such as"):
        parse_base_url(text)
