from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.precision import compare, psnr
from engine.weights.checkpoint import load_checkpoint

MOST_NATS = 0.01  # the greatest acceptable cost
LEAST_DECIBELS = 38


@pytest.mark.soak
def test_a_faster_precision_costs_little() -> None:
    found = compare(load_checkpoint("tiny", progress=False), ["bfloat16", "int8", "int4"], count=2, threads=2)
    means = {name: float(cost.divergences.mean()) for name, cost in found.items()}
    assert 0 < means["bfloat16"] < means["int8"] < means["int4"] < MOST_NATS
    assert found["bfloat16"].psnr == math.inf
    assert LEAST_DECIBELS < found["int8"].psnr == found["int4"].psnr < 60


def test_psnr_is_of_the_mean_square() -> None:
    exact = np.array([[0, 255], [100, 100]], np.uint8)
    assert psnr(exact, exact) == math.inf
    assert psnr(exact, np.array([[0, 255], [100, 90]], np.uint8)) == pytest.approx(10 * math.log10(255**2 / 25))
