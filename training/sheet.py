"""The README's picture of Tiny's drawings: `python -m training.sheet`."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dalle_model import DalleModel
from training.drawing import draw_all
from training.paths import ROOT

PROMPTS = (
    "a cat", "two dogs in the park", "a rocket in space", "a red circle on a blue background",
    "a pizza on a yellow background", "an owl", "three apples", "a small green star at the top",
    "a penguin in the snow", "a house", "a whale in the sea", "two yellow hearts on purple",
    "a robot", "a cup of coffee", "a snowman", "a cat left of a dog",
    "a big purple diamond, grey backdrop", "a cactus in the desert", "a guitar", "a burger and a glass of beer",
    "a crab on the beach", "a unicorn on a purple background", "three balloons", "a pink ring above a black square on white",
    "a fox", "a sailing boat in the sea", "a sunflower", "a cat inside a red circle",
    "a ghost at night", "a banana on a pink background", "a bus", "a fox, an owl and a bear",
    "a frog", "a castle", "an avocado", "a monkey next to a banana",
    "a fish under water", "a birthday cake", "a violin on a green background", "an orange cross inside a white circle on gray",
    "a koala", "a volcano", "a donut", "a bee above a flower",
    "a panda on the grass", "a cactus in a pot", "a happy face", "three white squares on black",
)  # fmt: skip
_SIDE, _CAPTION, _GAP, _COLUMNS, _LETTERS = 128, 28, 6, 8, 24  # pixels, pixels, pixels, pictures, letters


def main(arguments: list[str] | None = None) -> None:
    """Draw each prompt, the best of four by the model's own likelihood and not by eye, and save the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models_root", type=Path)
    parser.add_argument("--best_of", type=int, default=4)
    parser.add_argument("--target", type=Path, default=ROOT / "docs" / "images" / "tiny.png")
    options = parser.parse_args(arguments)
    with DalleModel("tiny", models_root=options.models_root, show_progress=True) as model:
        drawn = draw_all(model, PROMPTS, model.sampling.override(best_of=options.best_of), seed=0)
    step = (_SIDE + _GAP, _SIDE + _CAPTION + _GAP)
    sheet = Image.new("RGB", (_COLUMNS * step[0] + _GAP, len(PROMPTS) // _COLUMNS * step[1] + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (prompt, pixels) in enumerate(zip(PROMPTS, drawn, strict=True)):
        row, column = divmod(number, _COLUMNS)
        x, y = _GAP + column * step[0], _GAP + row * step[1]
        sheet.paste(Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (x, y))
        pen.text((x, y + _SIDE + 2), textwrap.fill(prompt, _LETTERS), fill="#444", font=ImageFont.load_default(10.0))
    options.target.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(255).save(options.target, optimize=True)


if __name__ == "__main__":
    main()
