"""Batch-invariant products, also on top of products whose rounding depends on the number and place of rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.runners.torch.batch_invariant import MAX_BLOCK, PAIR, BatchInvariantLinear, BlockSizes, Product

COUNTS = [2, 4, 6, 8, 14, 18, 32, 64, 66, 130]


def in_order(rows: Tensor, weight: Tensor, step: int) -> Tensor:
    """Multiply with `step` partial sums; each `step` rounds differently."""
    products = rows[:, None, :] * weight
    parts = torch.stack([products[..., first::step].cumsum(-1)[..., -1] for first in range(step)])
    return parts.cumsum(0)[-1]


def by_count(rows: Tensor, weight: Tensor) -> Tensor:
    return in_order(rows, weight, 1 + len(rows) % 7)


def by_place(rows: Tensor, weight: Tensor) -> Tensor:
    return (
        torch.cat([in_order(rows[:3], weight, 3), in_order(rows[3:], weight, 5)]) if len(rows) > 3 else in_order(rows, weight, 3)
    )


def by_count_from_16(rows: Tensor, weight: Tensor) -> Tensor:
    return in_order(rows, weight, 2 if len(rows) < 16 else 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("product", [F.linear, by_count, by_place, by_count_from_16])
def test_a_pair_is_the_same_alone_and_beside_others(product: Product, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(40, 96, generator=generator).to(dtype)
    pair = torch.randn(PAIR, 96, generator=generator).to(dtype)
    linear = BatchInvariantLinear(weight, BlockSizes(product))
    alone = linear(pair)
    torch.testing.assert_close(alone, F.linear(pair, weight), rtol=2e-2, atol=5e-1 if dtype == torch.bfloat16 else 1e-4)
    for count in COUNTS:
        rows = torch.randn(count, 96, generator=generator).to(dtype)
        for place in {0, PAIR * (count // 4), count - PAIR}:
            rows[place : place + PAIR] = pair
            assert torch.equal(linear(rows)[place : place + PAIR], alone), f"{count} rows, at {place}"


def test_the_products_of_these_tests_do_round_differently() -> None:
    rows, weight = torch.randn(18, 96), torch.randn(40, 96)
    for product in (by_count, by_place, by_count_from_16):
        assert not torch.equal(product(rows, weight)[-PAIR:], product(rows[-PAIR:], weight))


def test_blocks_are_as_large_as_possible() -> None:
    weight = torch.randn(40, 96)
    assert BlockSizes(by_count_from_16).split(18, weight) == [8, 10]
    assert BlockSizes(by_count_from_16).split(14, weight) == [14]
    assert sum(BlockSizes(by_place).split(18, weight)) == 18
    assert max(BlockSizes(lambda rows, weight: in_order(rows, weight, 3)).split(200, weight)) == MAX_BLOCK


def test_block_sizes_are_tried_again_with_another_number_of_threads() -> None:
    def by_threads(rows: Tensor, weight: Tensor) -> Tensor:
        return in_order(rows, weight, 2 if torch.get_num_threads() == 1 or len(rows) < 8 else 3)

    before = torch.get_num_threads()
    rows, weight = torch.randn(8, 96), torch.randn(40, 96)
    try:
        torch.set_num_threads(1)
        sizes = BlockSizes(by_threads)
        assert sizes.split(8, weight) == [8]
        torch.set_num_threads(2)
        assert torch.equal(sizes.multiply(rows, weight)[:PAIR], sizes.multiply(rows[:PAIR], weight))
    finally:
        torch.set_num_threads(before)


DRAW_ALONE_AND_BESIDE_OTHERS = """
import numpy as np, torch
from pathlib import Path
from engine.weights.checkpoint import load_checkpoint
from engine.runners.torch.runner import TorchRunner

torch.set_num_threads(2)
runner = TorchRunner(load_checkpoint("tiny", models_root=Path("tests/models"), progress=False), torch.device("cpu"))

def last_of(count, late):
    runner.reset()
    positions = [0] * count
    runner.admit([runner.encode([0, *range(5, 5 + 7 * i), 2]) for i in range(count - 1, -1, -1)])
    for step in range(40):
        logits = runner.step([step] * count, [*[position + late for position in positions[:-1]], positions[-1]])[-1].copy()
        yield logits
        positions = [position + 1 for position in positions]

alone = list(last_of(1, 0))
for count, late in ((2, 0), (4, 60), (9, 3)):
    for step, (one, other) in enumerate(zip(alone, last_of(count, late), strict=True)):
        assert np.array_equal(one, other), f"{count} images, step {step}"
"""


# MKL and torch take these kernels on other CPUs. With a library other than MKL, the first two are the same.
@pytest.mark.parametrize(
    "kernels",
    [
        {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
        {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
        {"ATEN_CPU_CAPABILITY": "default"},
    ],
    ids=lambda kernels: "-".join(kernels.values()),
)
def test_an_image_is_the_same_in_any_batch_with_the_kernels_of_other_cpus(kernels: dict[str, str]) -> None:
    environment = {**os.environ, "MKL_CBWR": "", **kernels}  # without the mode in which MKL guarantees it
    root = Path(__file__).parents[4]
    run = subprocess.run(
        [sys.executable, "-c", DRAW_ALONE_AND_BESIDE_OTHERS],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
