"""The weights that users get: their size, and that they draw what is asked."""

from __future__ import annotations

import torch

from dalle_model import DalleModel
from training.drawing import draw_all
from training.judge import Wanted, named, things_are_right
from training.paths import ROOT, TINY
from training.reader import Reader

PROMPTS = {
    "a cat": Wanted((named("cat"),)),
    "a red circle on a blue background": Wanted((named("red circle"),), "blue"),
    "a penguin in the snow": Wanted((named("penguin"),), "snow"),
    "two yellow hearts on purple": Wanted((named("yellow heart"),) * 2, "purple"),
    "an orange cross inside a white circle on gray": Wanted((named("orange cross"), named("white circle")), "gray", "inside"),
    "three white squares on black": Wanted((named("white square"),) * 3, "black"),
}


def test_the_files_fit_in_a_clone() -> None:
    assert sum(path.stat().st_size for path in TINY.iterdir()) < 40e6


def test_prompts_are_drawn_as_asked() -> None:
    reader = Reader()
    with DalleModel("tiny", models_root=ROOT / "models", threads=2) as model:
        assert model.sampling.best_of > 1 and model.known_words is not None
        assert model.known_words.unknown_words("a helicoptering cat") == ["helicoptering"]
        drawn = draw_all(model, list(PROMPTS), model.sampling, seed=1)
    right = {}
    for (prompt, wanted), picture in zip(PROMPTS.items(), drawn, strict=True):
        reading = reader.read(torch.from_numpy(picture))
        right[prompt] = things_are_right(reading, wanted) and wanted.background in (None, reading.background)
    assert sum(right.values()) >= len(PROMPTS) - 1, right
