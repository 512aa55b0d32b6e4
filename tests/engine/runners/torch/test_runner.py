"""torch's runner with several threads: a row has the same bits in any batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.runners import LogitsRunner
from engine.weights.checkpoint import ModelFiles

PROMPT = [0, 5, 6, 2]
OTHERS = [[0, *range(10, 50), 2], [0, 7, 2], [0, *range(20, 82), 2]]
STEPS = 64


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("loaded", ["torch"], indirect=True)
def test_with_two_threads_a_row_is_the_same_alone_and_beside_others(loaded: tuple[ModelFiles, LogitsRunner]) -> None:
    def logits_beside(others: list[list[int]]) -> NDArray[Any]:
        prompts = [*others, PROMPT]
        runner.reset()
        runner.admit([runner.encode(prompt) for prompt in prompts])
        return np.stack([runner.step([step] * len(prompts), [step] * len(prompts))[-1].copy() for step in range(STEPS)])

    runner = loaded[1]
    alone = logits_beside([])
    assert alone.std() > 0.5
    for count in range(1, len(OTHERS) + 1):
        assert np.array_equal(logits_beside(OTHERS[:count]), alone)
