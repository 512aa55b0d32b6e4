"""The sampler follows min-dalle's arithmetic, and a seed determines the draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.request import SamplingSettings
from engine.sampler import draw, guide, keep_top_k, sample, uniforms

VOCABULARY = 400


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((5, 2, VOCABULARY), generator=generator) * 2


def min_dalle_weights(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """Return unnormalized probabilities, computed as in min-dalle's `DalleBartDecoder.sample_tokens`."""
    logits = logits[:, 0] * (1 - settings.supercondition_factor) + logits[:, 1] * settings.supercondition_factor
    logits_sorted, _ = logits.sort(descending=True)
    is_kept = logits >= logits_sorted[:, [settings.top_k - 1]]
    logits = (logits - logits_sorted[:, [0]]) / settings.temperature
    return logits.exp() * is_kept.to(torch.float32)


@pytest.mark.parametrize(
    "settings",
    [SamplingSettings(), SamplingSettings(0.5, 64, 2.5), SamplingSettings(1.5, VOCABULARY, 1.0), SamplingSettings(1.0, 1, 3.0)],
)
def test_draws_follow_min_dalles_distribution(logits: Tensor, settings: SamplingSettings) -> None:
    weights = min_dalle_weights(logits, settings)
    expected = weights / weights.sum(-1, keepdim=True)
    draws = 4000
    counts = torch.zeros_like(expected)
    for i in range(draws):  # numbers that cover 0 to 1 evenly make the counts deterministic
        tokens, _ = sample(logits.numpy(), [settings] * len(logits), [(i + 0.5) / draws] * len(logits))
        counts[torch.arange(len(logits)), tokens] += 1
    assert (counts / draws - expected).abs().max() <= 1.5 / draws
    assert not counts[weights == 0].any()


def test_each_row_has_its_own_settings(logits: Tensor) -> None:
    rows = [SamplingSettings(1.0, 1, f) for f in (1.0, 2.0, 3.0, 8.0, 16.0)]
    together, _ = sample(logits.numpy(), rows, [0.9] * 5)
    for i, settings in enumerate(rows):
        assert together[i] == guide(logits[i : i + 1].numpy(), [settings.supercondition_factor])[0].argmax()


@pytest.mark.parametrize(("count", "top_k"), [(16384, 256), (4038, 64), (4038, 252), (4038, 253), (500, 499)])
@pytest.mark.parametrize("decimals", [1, 6], ids=["many ties", "few ties"])
def test_top_k_agrees_with_sorting(count: int, top_k: int, decimals: int) -> None:
    logits = np.random.default_rng(top_k).standard_normal((3, count)).round(decimals).astype(np.float32)
    for row, tokens, kept in zip(logits, *keep_top_k(logits, top_k), strict=True):
        is_kept = np.isfinite(kept)
        assert tokens[is_kept].tolist() == np.flatnonzero(row >= np.sort(row)[-top_k]).tolist()
        assert (kept[is_kept] == row[tokens[is_kept]]).all()


def test_ties_with_the_kth_are_kept_and_shorter_rows_are_padded() -> None:
    logits = np.array([[3, 1, 2, 2], [4, 3, 2, 1], [0, 0, 0, 0]], dtype=np.float32)
    tokens, kept = keep_top_k(logits, 2)
    assert [row[np.isfinite(own)].tolist() for row, own in zip(tokens, kept, strict=True)] == [
        [0, 2, 3],
        [0, 1],
        [0, 1, 2, 3],
    ]
    end = draw(kept, [1.0] * 3, [1 - 2**-53] * 3)
    assert tokens[[0, 1, 2], end].tolist() == [3, 1, 3]


def test_top_k_above_the_vocabulary_keeps_all(logits: Tensor) -> None:
    tokens, kept = keep_top_k(logits[:, 0].numpy(), 2**14)
    assert tokens.tolist() == [list(range(VOCABULARY))] * len(logits) and (kept == logits[:, 0].numpy()).all()


def test_an_image_is_drawn_alike_alone_and_among_images_with_other_settings() -> None:
    """More images than one chunk has, with several top-k in random order, and ties."""
    rng = np.random.default_rng(4)
    logits = rng.standard_normal((40, 2, 4038)).round(2).astype(np.float32)
    settings = [
        SamplingSettings(float(rng.uniform(0.3, 2)), int(rng.choice([1, 64, 9999])), float(rng.uniform(1, 9))) for _ in logits
    ]
    numbers = rng.random(40).tolist()
    together, _ = sample(logits, settings, numbers)
    assert together.tolist() == [sample(logits[i : i + 1], [each], [numbers[i]])[0][0] for i, each in enumerate(settings)]
    assert len(set(together)) > 30


@pytest.mark.parametrize("chance", [0.0, 1 - 2**-53])
def test_the_ends_of_the_distribution_are_kept_tokens(logits: Tensor, chance: float) -> None:
    settings = SamplingSettings(0.01, 3, 16.0)
    weights = min_dalle_weights(logits, settings)
    tokens, _ = sample(logits.numpy(), [settings] * 5, [chance] * 5)
    assert (weights[torch.arange(5), tokens] > 0).all()


def test_random_numbers_depend_on_the_seed_alone() -> None:
    assert uniforms(7) == uniforms(7) != uniforms(8)
    assert len(uniforms(0)) == 256
    assert all(0 <= chance < 1 for chance in uniforms(2**63 - 1))


@pytest.mark.parametrize("top_k", [1, 64, 9999])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_named(logits: Tensor, top_k: int, number: float) -> None:
    spoiled = logits.numpy().copy()
    spoiled[1, 1, 7] = spoiled[3, 0, 2] = spoiled[3, 1, 2] = number
    settings = [SamplingSettings(1.0, top_k, 3.0)] * 5
    tokens, not_finite = sample(spoiled, settings, [0.5] * 5)
    assert not_finite == [1, 3]
    assert np.array_equal(tokens, sample(logits.numpy(), settings, [0.5] * 5)[0] * [1, 0, 1, 0, 1])
    assert sample(spoiled[[1, 3]], settings[:2], [0.5] * 2)[1] == [0, 1]
