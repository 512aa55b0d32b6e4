from __future__ import annotations

import pytest
from PIL import Image

from consts import MAX_IMAGE_SIDE, MIN_IMAGE_SIDE
from server.images.sizes import Size, fit, parse_size


def test_auto_keeps_the_size() -> None:
    assert parse_size("auto") is None
    drawn = Image.new("RGB", (256, 256), "red")
    assert fit(drawn, None) is drawn
    assert fit(drawn, Size(256, 256)) is drawn


def test_exactly_the_sides_within_the_limits_are_accepted() -> None:
    """The pattern for them is written by hand."""
    accepted = []
    for side in range(10_000):
        try:
            accepted.append(parse_size(f"{side}x256"))
        except ValueError:
            continue
    assert accepted == [Size(side, 256) for side in range(MIN_IMAGE_SIDE, MAX_IMAGE_SIDE + 1)]


@pytest.mark.parametrize(
    "text", ["", "256", "256X256", "256x", "x256", "0256x256", "256x256x256", " 256x256", "256x256\n", "٢٥٦x256"]
)
def test_an_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="auto or <width>x<height>"):
        parse_size(text)


@pytest.mark.parametrize("text", ["512x512", "1792x1024", "1024x1536", "16x2048", "100x100"])
def test_an_image_has_exactly_the_requested_size(text: str) -> None:
    size = parse_size(text)
    assert size is not None
    assert str(size) == text
    assert fit(Image.new("RGB", (256, 256)), size).size == (size.width, size.height)


def test_another_aspect_ratio_crops_both_sides_equally_and_distorts_nothing() -> None:
    drawn = Image.new("RGB", (256, 256), "white")
    drawn.paste("red", (0, 0, 64, 256))
    drawn.paste("blue", (192, 0, 256, 256))
    tall = fit(drawn, Size(256, 512))
    assert tall.getpixel((2, 256)) == tall.getpixel((253, 256)) == (255, 255, 255)
    wide = fit(drawn, Size(512, 256))
    assert wide.getpixel((64, 10)) == (255, 0, 0)
    assert wide.getpixel((448, 245)) == (0, 0, 255)


def test_edges_are_smooth_after_scaling() -> None:
    """A nearest-neighbour filter would leave hard steps."""
    drawn = Image.new("L", (256, 256), 0)
    drawn.paste(255, (128, 0, 256, 256))
    row = [fit(drawn, Size(1024, 1024)).getpixel((x, 512)) for x in range(500, 524)]
    assert len(set(row)) > 4
