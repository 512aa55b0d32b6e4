"""The README's image of Tiny's drawings: `python -m training.sheet`."""

from __future__ import annotations

import textwrap

from PIL import Image, ImageDraw, ImageFont

from dalle_model import DalleModel
from training.paths import ROOT

PROMPTS = (
    "a red circle on a blue background",
    "small green star at the top",
    "two yellow hearts on purple",
    "a pink ring above a black square, white background",
    "a big purple diamond, grey backdrop",
    "an orange cross inside a white circle on gray",
    "cyan triangle in the bottom right corner, brown bg",
    "three white squares on black",
)
_SIDE, _CAPTION, _GAP, _COLUMNS, _COLUMN = 208, 36, 8, 4, 36  # pixels, pixels, pixels, images, letters


def main() -> None:
    """Draw each prompt with seed 0, the first image and not the best of several, and save the sheet."""
    rows = -(-len(PROMPTS) // _COLUMNS)
    step = (_SIDE + _GAP, _SIDE + _CAPTION + _GAP)
    sheet = Image.new("RGB", (_COLUMNS * step[0] + _GAP, rows * step[1] + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    with DalleModel("tiny") as model:
        for i, prompt in enumerate(PROMPTS):
            row, column = divmod(i, _COLUMNS)
            x, y = _GAP + column * step[0], _GAP + row * step[1]
            sheet.paste(model.generate_images(prompt, seed=0)[0].resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (x, y))
            pen.text((x, y + _SIDE + 4), textwrap.fill(prompt, _COLUMN), fill="#444", font=ImageFont.load_default(11.0))
    target = ROOT / "docs" / "images" / "tiny.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, optimize=True)


if __name__ == "__main__":
    main()
