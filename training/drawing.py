"""Drawing prompts for the evaluation, as a caller of the model would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dalle_model import DalleModel, DrawingRequest, SamplingSettings


def draw_all(
    model: DalleModel, prompts: Sequence[str], settings: SamplingSettings, *, seed: int, title: str = "drawing"
) -> NDArray[Any]:
    """Draw a picture of each prompt, the first by `seed`, the next by `seed` + 1: uint8 [N, 256, 256, 3]."""
    drawings = [model.start(DrawingRequest(prompt, (seed + i,), settings)) for i, prompt in enumerate(prompts)]
    with tqdm(drawings, desc=title, unit="picture", mininterval=5) as bar:
        return np.stack([np.asarray(drawing.result()[0]) for drawing in bar])
