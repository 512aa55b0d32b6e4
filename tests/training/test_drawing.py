"""The evaluation's pictures are those that a caller of the model gets."""

from __future__ import annotations

import numpy as np

from dalle_model import DalleModel
from training.drawing import draw_all


def test_each_prompt_is_drawn_with_the_settings_and_a_seed_of_its_own() -> None:
    prompts = ["a star", "a red circle"]
    with DalleModel("tiny", threads=1) as model:
        drawn = draw_all(model, prompts, model.sampling.override(best_of=2), seed=7)
        expected = [model.generate_images(prompt, seed=7 + i, best_of=2)[0] for i, prompt in enumerate(prompts)]
    assert np.array_equal(drawn, np.stack([np.asarray(image) for image in expected]))
