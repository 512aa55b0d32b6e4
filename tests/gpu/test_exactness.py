"""The CUDA runner's numbers on a GPU: those of min-dalle, and the same bits in any batch."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch

from engine.request import SamplingSettings
from engine.runners.cuda.support import DTYPES
from engine.runners.runner import Draw
from engine.sampler import guide, uniforms
from engine.text import tokenize_prompt
from tests.gpu.models import model_on, sizes_of
from tests.parity.reference import reference_logits

PROMPT, NEGATIVE = "a red circle on a blue background", "two yellow hearts"
OTHERS = [[0, *range(10, 50), 2], [0, 7, 2], [0, *range(20, 82), 2]]


@torch.inference_mode()
def test_float32_follows_min_dalle(gpu: torch.device) -> None:
    """Logits within 1e-3 under forced tokens, and equal greedy tokens."""
    from engine.runners.cuda.runner import CudaRunner

    checkpoint = model_on(gpu, sizes_of("mini", 4), torch.float32)
    runner = CudaRunner(checkpoint, gpu)
    text, negative = (tokenize_prompt(checkpoint.tokenizer, each, checkpoint.config) for each in (PROMPT, NEGATIVE))
    greedy = Draw(SamplingSettings(top_k=1), uniforms(1))
    runner.admit([runner.encode(text, negative)], [greedy])
    drawn = np.concatenate([runner.draw(8).tokens[0] for _ in range(4)]).tolist()
    forced = [checkpoint.config.decoder_start_token_id, *drawn[:-1]]
    with gpu:
        expected = reference_logits(checkpoint, PROMPT, forced, NEGATIVE).cpu().numpy()
    runner.rearrange([])
    runner.admit([runner.encode(text, negative)], [greedy])
    logits = np.concatenate([runner.force([token], [position])[0] for position, token in enumerate(forced)])
    assert np.abs(logits - expected).max() < 1e-3 and expected.std() > 0.1
    assert guide(expected, [greedy.sampling.supercondition_factor] * len(forced)).argmax(1).tolist() == drawn


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_an_image_has_the_same_bits_alone_and_while_others_join_and_leave(name: str, gpu: torch.device) -> None:
    from engine.runners.cuda.runner import CudaRunner

    checkpoint = model_on(gpu, sizes_of("mini", 3), DTYPES[name])
    runner = CudaRunner(checkpoint, gpu)
    rng = Random(1)
    own = runner.encode([0, 5, 6, 2]), Draw(SamplingSettings(), uniforms(7), needs_likelihoods=True)

    def admit_others(count: int) -> None:
        prompts = [runner.encode(rng.choice(OTHERS), rng.choice([None, *OTHERS])) for _ in range(count)]
        runner.admit(prompts, [Draw(SamplingSettings(top_k=50), uniforms(rng.randrange(99))) for _ in range(count)])

    runner.admit([own[0]], [own[1]])
    alone = [runner.draw(8) for _ in range(32)]
    runner.rearrange([])
    admit_others(1)
    runner.admit([own[0]], [own[1]])
    watched, positions, sizes = 1, [0, 0], set()
    for expected in alone:
        drawn = runner.draw(8)
        assert drawn.tokens[watched].tolist() == expected.tokens[0].tolist(), f"at {positions}"
        assert drawn.likelihoods[watched].tolist() == expected.likelihoods[0].tolist(), "to the bit"
        sizes.add(len(positions))
        positions = [position + 8 for position in positions]
        kept = [i for i in range(len(positions)) if i == watched or (positions[i] < 256 and rng.random() < 0.8)]
        runner.rearrange(kept)
        positions, watched = [positions[i] for i in kept], kept.index(watched)
        count = rng.randrange(0, 9) if len(positions) < 40 else 0
        admit_others(count)
        positions += [0] * count
    assert max(sizes) > 16, "the slots grew while the image was drawn"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_row_has_the_same_bits_among_any_others(dtype: torch.dtype, gpu: torch.device) -> None:
    from engine.runners.cuda.products import MOST_ROWS, InvariantProducts

    products, most = InvariantProducts(gpu), 2 * MOST_ROWS
    for n, k in ((6144, 2048), (2048, 4096), (1024, 2816)):
        x, weight = (torch.randn(size, device=gpu).to(dtype) for size in ((most, k), (n, k)))
        for result in (dtype, torch.float32):
            multiply, y = products(weight, result), torch.empty((most, n), device=gpu, dtype=result)
            multiply(x, y)
            expected = y.clone()
            for count, first in ((2, 0), (2, 200), (18, 30), (34, 0), (128, 7), (130, 5)):
                others = torch.full_like(x, torch.nan)
                others[:count] = x[first : first + count]
                multiply(others[:count], y[:count])
                assert torch.equal(y[:count], expected[first : first + count]), f"{n} x {k}, {count} rows from {first}"
            error = float((expected - x.double() @ weight.double().t()).abs().max())
            # Tensor cores add with fewer bits than float32's: of numbers as large as 200, 0.0008 was seen.
            assert error < max(8 * k**0.5 * torch.finfo(result).eps, 8 * k * torch.finfo(torch.float32).eps)


def test_a_picture_in_16_bits_is_good_and_the_same_alone_and_among_others(gpu: torch.device) -> None:
    from engine.runners.cuda.detokenizer import LEAST_SIGNAL_TO_NOISE, CudaDetokenizer, signal_to_noise
    from engine.weights.detokenizer import pixels_of

    checkpoint = model_on(gpu, sizes_of("mini", 1), torch.float16)
    with torch.inference_mode():
        checkpoint.detokenizer.decoder.conv_out.weight.mul_(5)  # type: ignore[union-attr, operator]
        detokenizer = CudaDetokenizer(checkpoint.detokenizer, 2**14, gpu)
        assert detokenizer._half is not None, "16 bits proved good enough"
        grids = torch.randint(2**14, (5, 16, 16)).numpy()
        together = detokenizer.detokenize(grids)
        alone = np.concatenate([detokenizer.detokenize(grid[None]) for grid in grids])
        assert np.array_equal(together, alone) and together.std() > 20
        exact = torch.cat([pixels_of(checkpoint.detokenizer, torch.from_numpy(grid[None]).to(gpu)) for grid in grids])
        assert signal_to_noise(torch.from_numpy(together), exact.cpu()) > LEAST_SIGNAL_TO_NOISE
        assert detokenizer.detokenize(np.hstack([grids[0], grids[1]])[None]).shape == (1, 256, 512, 3)
