from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from consts import MAX_PROMPT_CHARACTERS, MAX_SEED, ImageFormat
from dalle_model import SamplingSettings
from server.images.metadata import ImageMetadata, encode_with_metadata, read_metadata
from utils import encode_image

IMAGE = Image.new("RGB", (16, 16), "red")


def metadata_of(prompt: str) -> ImageMetadata:
    return ImageMetadata(prompt, (MAX_SEED - 1, MAX_SEED), "Tiny", SamplingSettings(0.5, 64, 3.0), seamless=False)


@pytest.mark.parametrize("image_format", ImageFormat)
@given(prompt=st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
@example(prompt="🦊" * MAX_PROMPT_CHARACTERS)
@example(prompt="\x01" * MAX_PROMPT_CHARACTERS)
@example(prompt='"\\' * (MAX_PROMPT_CHARACTERS // 2))
@example(prompt="a\0b")
def test_metadata_survives_encoding(image_format: ImageFormat, prompt: str) -> None:
    assert read_metadata(encode_with_metadata(IMAGE, image_format, metadata_of(prompt))) == metadata_of(prompt)


@pytest.mark.parametrize("image_format", ImageFormat)
def test_the_prompt_is_in_the_standard_description_field(image_format: ImageFormat) -> None:
    with Image.open(BytesIO(encode_with_metadata(IMAGE, image_format, metadata_of("a red\ncircle")))) as image:
        if image_format is ImageFormat.PNG:
            assert image.info["Description"] == "a red circle"
        else:
            assert image.getexif()[ExifTags.Base.ImageDescription] == "a red circle"


@pytest.mark.parametrize("image_format", ImageFormat)
def test_metadata_does_not_change_the_pixels(image_format: ImageFormat) -> None:
    described = Image.open(BytesIO(encode_with_metadata(IMAGE, image_format, metadata_of("a red circle"))))
    plain = Image.open(BytesIO(encode_image(IMAGE, image_format)))
    assert described.convert("RGB").tobytes() == plain.convert("RGB").tobytes()


@pytest.mark.parametrize("image_format", ImageFormat)
def test_reading_an_image_without_metadata_is_an_error(image_format: ImageFormat) -> None:
    with pytest.raises(ValueError, match="does not say how it was drawn"):
        read_metadata(encode_image(IMAGE, image_format))
