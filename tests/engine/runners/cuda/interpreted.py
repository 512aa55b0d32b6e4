"""The CUDA runner on a CPU, its kernels in Triton's interpreter: test_interpreted.py runs these tests in a process for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engine.request import IMAGE_TOKEN_COUNT, SamplingSettings
from engine.runners import SamplingRunner
from engine.runners.cuda import half_detokenizer, runner
from engine.runners.cuda.decoder import power_of_two
from engine.runners.cuda.detokenizer import signal_to_noise
from engine.runners.cuda.encoder import EncodedPrompt
from engine.runners.cuda.half_detokenizer import HalfDetokenizer, group_norm
from engine.runners.cuda.kernels.drawing import draw_kernel
from engine.runners.cuda.loading import proven_runner
from engine.runners.cuda.products import Product, library_product
from engine.runners.cuda.proof import TOLERANCE, Proof
from engine.runners.cuda.runner import CudaRunner
from engine.runners.cuda.slots import Slots
from engine.runners.cuda.support import Unproven
from engine.runners.runner import Draw, Drawn, Runner
from engine.runners.torch.runner import TorchRunner
from engine.sampler import log_likelihoods, sample, uniforms
from engine.text import tokenize_prompt
from engine.upstream.modules import VQGanDetokenizer
from engine.weights.checkpoint import Checkpoint
from engine.weights.config import ModelConfig
from engine.weights.detokenizer import attend_over_any_grid, pixels_of
from tests.engine.runners.cuda.small_model import CPU, small_checkpoint
from tests.parity.reference import reference_logits

PROMPTS = [[0, 5, 6, 2], [0, *range(10, 40), 2], [0, 7, 2]]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return small_checkpoint()


@pytest.fixture(scope="module", autouse=True)
def little_room() -> Iterator[None]:
    """Reserve one slot: the interpreter copies all of them at each launch, and a second image makes the room grow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "FIRST_SLOTS", 1)
        patch.setattr(runner, "CAPTURED_AT_START", ())
        yield


@pytest.fixture(scope="module")
def cuda(checkpoint: Checkpoint) -> CudaRunner:
    """Return the runner as it is on a GPU."""
    return CudaRunner(checkpoint, CPU)


@pytest.fixture(scope="module")
def quick(checkpoint: Checkpoint) -> CudaRunner:
    """Return a runner whose products are not Triton's, which take half of the interpreter's time."""
    return CudaRunner(checkpoint, CPU, library_product)


@torch.inference_mode()
def test_logits_follow_min_dalle(cuda: CudaRunner, checkpoint: Checkpoint) -> None:
    forced = [100, 3, 99]
    expected = reference_logits(checkpoint, "a red circle", forced, "a blue star")
    text, negative = (tokenize_prompt(checkpoint.tokenizer, each, checkpoint.config) for each in ("a red circle", "a blue star"))
    cuda.reset()
    cuda.admit([cuda.encode(text, negative)], [Draw(SamplingSettings(), uniforms(0))])
    logits = np.concatenate([cuda.force([token], [position])[0] for position, token in enumerate(forced)])
    assert logits.shape == expected.shape and logits.std() > 0.1
    assert np.abs(logits - expected.numpy()).max() < 1e-5


def test_the_runner_proves_itself_beside_torchs(
    cuda: CudaRunner, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Proof.of(checkpoint.config, 0, 2)
    proof = replace(
        whole, prompts=whole.prompts[:2], tokens=whole.tokens[[0, 5], :2], positions=(0, 129), graph_steps=2
    )  # less of it
    reference = proof.reference(TorchRunner(checkpoint, CPU))
    cuda.reset()
    proof.check(cuda, reference, tolerance=1e-5)
    assert caplog.messages == [], "the same bits alone"
    with pytest.raises(Unproven, match=r"at position 0 its logits are 0\.0\d* of their spread from torch's"):
        proof.check(cuda, reference + 0.02 * reference.std(), tolerance=TOLERANCE[torch.float32])


def test_a_runner_that_multiplies_wrongly_is_found(checkpoint: Checkpoint) -> None:
    def wrong_product(weight: Tensor, dtype: torch.dtype) -> Product:
        right = library_product(weight, dtype)

        def multiply(x: Tensor, y: Tensor) -> None:
            right(x, y)
            y[..., -1] = 0  # a column that no program computes

        return multiply

    with pytest.raises(Unproven, match="at position 0 its logits"):
        proven_runner(checkpoint, CPU, wrong_product)


def draw_together(drawer: Runner, draws: Sequence[Draw]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw image 0 while others join and leave; return its four tokens and their likelihoods."""
    encoded = [drawer.encode(PROMPTS[0]), drawer.encode(PROMPTS[1], PROMPTS[2]), drawer.encode(PROMPTS[2])]
    drawn = []

    def draw(steps: int, place: int) -> None:
        while steps:
            part: Drawn = drawer.draw(steps)
            assert not part.not_finite and np.isnan(np.delete(part.likelihoods, place, 0)).all()
            drawn.append((part.tokens[place], part.likelihoods[place]))
            steps -= part.tokens.shape[1]

    drawer.reset()
    drawer.admit(encoded[2:], draws[2:])
    draw(1, 0)
    drawn.clear()
    drawer.admit(encoded[:2], draws[:2])  # there is room for one image, so the other's cache moves
    draw(2, 1)
    drawer.rearrange([2, 1])
    draw(1, 1)
    drawer.rearrange([1])
    draw(1, 0)
    drawer.rearrange([])
    tokens, likelihoods = zip(*drawn, strict=True)
    return np.concatenate(tokens), np.concatenate(likelihoods)


def test_images_that_join_and_leave_are_drawn_as_torch_draws_them(quick: CudaRunner, checkpoint: Checkpoint) -> None:
    settings = [SamplingSettings(), SamplingSettings(0.5, 10, 4.0), SamplingSettings(1.5, 90, 1.0)]
    draws = [Draw(each, uniforms(seed), needs_likelihoods=seed == 0) for seed, each in enumerate(settings)]
    tokens, likelihoods = draw_together(quick, draws)
    their_tokens, their_likelihoods = draw_together(SamplingRunner(TorchRunner(checkpoint, CPU), checkpoint.config), draws)
    assert tokens.tolist() == their_tokens.tolist() and len(set(tokens.tolist())) > 1
    assert np.allclose(likelihoods, their_likelihoods, atol=1e-5) and (likelihoods < 0).all()


def test_an_image_that_is_not_finite_is_named_and_costs_no_other(quick: CudaRunner) -> None:
    draw = Draw(SamplingSettings(), uniforms(7))
    good = quick.encode(PROMPTS[0])
    bad = (good[0], EncodedPrompt(good[1].keys_values * torch.nan, good[1].length))
    quick.reset()
    quick.admit([good], [draw])
    alone = quick.draw(1)
    quick.rearrange([])
    quick.admit([bad, good], [draw, draw])
    drawn = quick.draw(1)
    assert list(drawn.not_finite) == [0] and not alone.not_finite
    assert drawn.tokens[1].tolist() == alone.tokens[0].tolist()


def test_the_latest_prompts_are_encoded_once(quick: CudaRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[tuple[int, ...]] = []
    encode = quick._encoder.encode

    def count(tokens: tuple[int, ...]) -> EncodedPrompt:
        encoded.append(tokens)
        return encode(tokens)

    monkeypatch.setattr(quick._encoder, "encode", count)
    quick.reset()
    texts = [(0, 5 + number, 2) for number in range(runner.CACHED_PROMPTS + 1)]
    for text in (*texts[:-1], texts[0], texts[-1], texts[0], texts[1]):  # the last one takes the place of the second
        quick.encode(text)
    assert encoded == [*texts, texts[1]]
    quick.reset()
    quick.encode(texts[1], texts[0])
    assert encoded == [*texts, texts[1], texts[0], texts[1]]


def test_a_runner_whose_memory_ran_out_draws_the_same_after_a_reset(quick: CudaRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, draw = quick.encode(PROMPTS[0]), Draw(SamplingSettings(), uniforms(7))
    quick.reset()
    quick.admit([prompt], [draw])
    tokens = quick.draw(1).tokens.tolist()
    grown, calls = Slots._grown, []

    def run_out(slots: Slots, old: Tensor, count: int, axis: int = 0) -> Tensor:
        calls.append(count)
        if len(calls) > 3:
            raise torch.OutOfMemoryError
        return grown(slots, old, count, axis)

    monkeypatch.setattr(Slots, "_grown", run_out)
    with pytest.raises(torch.OutOfMemoryError):
        quick.admit([prompt], [draw])

    class FewSlots(Slots):
        """There is memory for one image, and not for those that come later."""

        def __init__(self, config: ModelConfig, count: int, *others: Any) -> None:
            if count > 1:
                raise torch.OutOfMemoryError
            super().__init__(config, count, *others)

    monkeypatch.setattr(runner, "Slots", FewSlots)
    monkeypatch.setattr(runner, "FIRST_SLOTS", 16)
    quick.reset()
    quick.admit([prompt], [draw])
    assert quick.draw(1).tokens.tolist() == tokens
    quick.reset()


@pytest.mark.parametrize("has_ties", [False, True])
def test_the_draw_is_the_samplers(has_ties: bool) -> None:
    """At the true number of logits: guidance, top-k, temperature, the draw, and the likelihood."""
    count, vocabulary, position = 6, 2**14, 255
    settings = [SamplingSettings(*each) for each in ((1.0, 256, 16.0), (0.7, 10, 8.0), (1.5, 1000, 4.0), (1.0, 1, 16.0))]
    settings += [SamplingSettings(0.01, 2**14, 0.0), SamplingSettings(100.0, 50, 100.0)]
    logits = torch.randn((2 * count, vocabulary), generator=torch.Generator().manual_seed(int(has_ties)))
    if has_ties:
        logits = logits.bfloat16().float()
    chances = torch.tensor([uniforms(seed) for seed in range(count)], dtype=torch.float64)
    tokens, positions, not_finite = (torch.zeros(count + 1, dtype=torch.int32) for _ in range(3))
    drawn = torch.zeros((count + 1, IMAGE_TOKEN_COUNT), dtype=torch.int32)
    likelihoods = torch.zeros((count + 1, IMAGE_TOKEN_COUNT), dtype=torch.float64)
    positions[:count] = position
    draw_kernel[(count,)](
        logits, torch.arange(count, dtype=torch.int32), tokens, positions, chances,
        torch.tensor([each.supercondition_factor for each in settings]), torch.tensor([each.temperature for each in settings]),
        torch.tensor([each.top_k for each in settings], dtype=torch.int32), torch.ones(count, dtype=torch.int32),
        drawn, likelihoods, not_finite, vocabulary, vocabulary, count,
        BLOCK=power_of_two(vocabulary), LENGTH=IMAGE_TOKEN_COUNT,
    )  # fmt: skip
    pairs = logits.view(count, 2, vocabulary).numpy()
    expected, _ = sample(pairs, settings, chances[:, position].tolist())
    assert drawn[:count, position].tolist() == tokens[:count].tolist() == expected.tolist()
    assert np.allclose(likelihoods[:count, position].numpy(), log_likelihoods(pairs[:, 1], expected), rtol=1e-12)
    assert not not_finite.any()


@pytest.mark.parametrize("has_silu", [False, True])
def test_group_norm_is_torchs(has_silu: bool) -> None:
    norm = nn.GroupNorm(32, 64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 64, 8, 16) + 3
    expected = F.silu(norm(x)) if has_silu else norm(x)
    assert torch.allclose(group_norm(x, norm, has_silu=has_silu), expected, atol=1e-5)


@torch.inference_mode()
def test_half_of_the_bits_draw_nearly_the_same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms by torch here, as the interpreter takes minutes for a whole picture's."""
    torch.manual_seed(0)
    vqgan = attend_over_any_grid(VQGanDetokenizer()).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    vqgan.decoder.conv_out.weight.mul_(5)

    def torch_norm(x: Tensor, norm: nn.GroupNorm, *, has_silu: bool) -> Tensor:
        return F.silu(norm(x)) if has_silu else norm(x)

    monkeypatch.setattr(half_detokenizer, "group_norm", torch_norm)
    monkeypatch.setattr(half_detokenizer, "SIDE_BY_SIDE", 2)
    grids = torch.randint(2**14, (3, 2, 2))
    pixels, are_finite = HalfDetokenizer(vqgan, 2, CPU).pixels(grids)
    exact = pixels_of(vqgan, grids)
    assert are_finite.tolist() == [True] * 3 and pixels.shape == exact.shape and exact.float().std() > 20
    assert 45 < signal_to_noise(pixels, exact) < 80
