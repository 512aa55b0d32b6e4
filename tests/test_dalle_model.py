"""Hold the library form: prompts in, PIL images out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dalle_model import Cancelled, DalleModel, ImageDone, InvalidRequest, Preview


def test_four_images_for_a_prompt(tiny_model: DalleModel) -> None:
    images = tiny_model.generate_images("a red circle", 4, seed=1)
    assert [(image.size, image.mode) for image in images] == [((256, 256), "RGB")] * 4
    assert len({image.tobytes() for image in images}) == 4


def test_image_i_has_seed_plus_i(tiny_model: DalleModel) -> None:
    drawing = tiny_model.draw("a red circle", 2, seed=2**63 - 2)
    assert drawing.seeds == [2**63 - 2, 2**63 - 1]
    assert tiny_model.generate_images("a red circle", seed=2**63 - 1)[0].tobytes() == drawing.images[1].tobytes()


def test_the_same_on_the_next_start(tiny_model: DalleModel) -> None:
    here = tiny_model.generate_images("a blue star", seed=3)[0].tobytes()
    script = (
        "import hashlib; from dalle_model import Cancelled, DalleModel\n"
        "with DalleModel('tiny') as m: print(hashlib.sha256(m.generate_images('a blue star', seed=3)[0].tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    import hashlib

    assert hashlib.sha256(here).hexdigest() == there


def test_without_a_seed_each_drawing_is_new(tiny_model: DalleModel) -> None:
    assert tiny_model.draw("a red circle").seeds != tiny_model.draw("a red circle").seeds


def test_stream_gives_previews_then_images(tiny_model: DalleModel) -> None:
    events = list(tiny_model.stream("a red circle", 2, seed=1))
    assert sum(isinstance(event, Preview) for event in events) == 14
    assert sorted(event.seed for event in events if isinstance(event, ImageDone)) == [1, 2]


def test_closing_a_stream_stops_the_drawing(tiny_model: DalleModel) -> None:
    stream = tiny_model.stream("a red circle", 9)
    next(stream)
    stream.close()
    assert list(stream) == []


def test_a_drawing_that_nobody_wants_any_more_is_stopped(tiny_model: DalleModel) -> None:
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        tiny_model.draw("a red circle", 9, is_cancelled=lambda: next(answers))
    assert next(answers, None) is None


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
        tiny_model.draw("a red circle", **fields)  # type: ignore[arg-type]
    assert error.value.field == field
    assert field in error.value.message


def test_importing_costs_no_torch() -> None:
    script = "import sys, dalle_model; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(("prompt", "count"), [("", 2), ("a red circle", 5), ("red " * 100, 64)])
def test_text_tokens_are_counted_as_the_model_reads_them(tiny_model: DalleModel, prompt: str, count: int) -> None:
    assert tiny_model.count_text_tokens(prompt) == count
