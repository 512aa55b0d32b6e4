"""The library: prompts in, PIL images out."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from dalle_model import PREVIEWS, Cancelled, DalleModel, DrawingRequest, ImageDone, InvalidRequest, Preview, consecutive_seeds

MANY = tuple(range(256))  # seeds of images that take seconds, so that none is done before its cancelling


def test_four_images_for_a_prompt(tiny_model: DalleModel) -> None:
    images = tiny_model.generate_images("a red circle", 4, seed=1)
    assert [(image.size, image.mode) for image in images] == [((256, 256), "RGB")] * 4
    assert len({image.tobytes() for image in images}) == 4


def test_image_i_has_seed_plus_i(tiny_model: DalleModel) -> None:
    drawing = tiny_model.start(DrawingRequest("a red circle", consecutive_seeds(2**63 - 2, 2), tiny_model.sampling))
    assert drawing.seeds == [2**63 - 2, 2**63 - 1]
    assert tiny_model.generate_images("a red circle", seed=2**63 - 1)[0].tobytes() == drawing.result()[1].tobytes()


def test_a_seed_draws_the_same_image_after_a_restart(tiny_model: DalleModel) -> None:
    here = tiny_model.generate_images("a blue star", seed=3)[0].tobytes()
    script = (
        "import hashlib; from pathlib import Path; from dalle_model import DalleModel\n"
        "with DalleModel('tiny', models_root=Path('tests/models')) as model:\n"
        "    print(hashlib.sha256(model.generate_images('a blue star', seed=3)[0].tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert hashlib.sha256(here).hexdigest() == there


def test_without_a_seed_each_drawing_has_a_new_one() -> None:
    assert consecutive_seeds(None, 1) != consecutive_seeds(None, 1)


def test_events_are_previews_then_images(tiny_model: DalleModel) -> None:
    drawing = tiny_model.start(DrawingRequest("a red circle", (1, 2), previews=PREVIEWS))
    events = list(drawing.events())
    assert sum(isinstance(event, Preview) for event in events) == 14
    done = [event for event in events if isinstance(event, ImageDone)]
    assert sorted(event.seed for event in done) == [1, 2]
    assert drawing.images == [event.image for event in sorted(done, key=lambda event: event.index)]


def test_a_seamless_drawing_is_one_picture_and_so_are_its_previews(tiny_model: DalleModel) -> None:
    request = DrawingRequest("a red circle", tuple(range(6)), previews=PREVIEWS, seamless=True, every_preview=True)
    drawing = tiny_model.start(request)
    previews = [event for event in drawing.events() if isinstance(event, Preview)]
    assert [(event.index, event.tokens_drawn) for event in previews] == [(0, count) for count in PREVIEWS]
    assert [image.size for image in [*drawing.images, *(event.image for event in previews)]] == [(3 * 256, 2 * 256)] * 8
    for row in (0, 256):  # 32 tokens: two of sixteen rows of each image
        undrawn = previews[0].image.crop((0, row + 32, 3 * 256, row + 256))
        assert undrawn.getcolors() == [(3 * 256 * 224, (128, 128, 128))]
        drawn = previews[0].image.crop((0, row, 3 * 256, row + 32)).getcolors(10**6)
        assert drawn is not None and (128, 128, 128) not in {color for _, color in drawn}


def test_leaving_the_loop_over_the_events_cancels_the_drawing(tiny_model: DalleModel) -> None:
    before = tiny_model.state.images_cancelled
    for _ in tiny_model.start(DrawingRequest("a red circle", MANY)).events():
        break
    assert tiny_model.state.images_cancelled == before + len(MANY)


def test_the_end_of_a_with_block_cancels_a_drawing_that_was_never_read(tiny_model: DalleModel) -> None:
    before = tiny_model.state.images_cancelled
    with tiny_model.start(DrawingRequest("a red circle", MANY)):
        pass
    assert tiny_model.state.images_cancelled == before + len(MANY)


def test_a_result_whose_caller_has_gone_is_cancelled(tiny_model: DalleModel) -> None:
    before = tiny_model.state.images_cancelled
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        tiny_model.start(DrawingRequest("a red circle", MANY)).result(lambda: next(answers))
    assert next(answers, None) is None
    assert tiny_model.state.images_cancelled > before + len(MANY) // 2  # the first ones may be done


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"temperature": 0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"seed": -1}, "seed"),
        ({"num_images": 0}, "num_images"),
        ({"seed": 2**63 - 1, "num_images": 2}, "seed"),
        ({"supercondition_factor": float("nan")}, "supercondition_factor"),
    ],
)
def test_bad_values_name_their_field(tiny_model: DalleModel, fields: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        tiny_model.generate_images("a red circle", **fields)
    assert error.value.field == field
    assert field in error.value.message


@pytest.mark.parametrize("prompt", ["red " * 62, "red " * 1000, "x9" * 40, "\N{CHEERING MEGAPHONE}" * 30])
def test_a_prompt_that_may_be_cut_has_a_warning(tiny_model: DalleModel, prompt: str) -> None:
    (warning,) = tiny_model.prompt_warnings(prompt)
    assert "64 tokens" in warning and "may have no effect" in warning


@pytest.mark.parametrize("prompt", ["", "red " * 61, "x9" * 30, "a r\u00e9d circle"])
def test_a_prompt_that_is_read_to_its_end_has_none(tiny_model: DalleModel, prompt: str) -> None:
    assert tiny_model.count_text_tokens(prompt) < 64
    assert tiny_model.prompt_warnings(prompt) == []


@pytest.mark.parametrize(("prompt", "count"), [("", 2), ("a red circle", 5), ("red " * 100, 64)])
def test_the_text_tokens_that_the_model_reads_are_counted(tiny_model: DalleModel, prompt: str, count: int) -> None:
    assert tiny_model.count_text_tokens(prompt) == count
