"""Our engine agrees with min-dalle's modules: tokens, logits, greedy images, pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.reference import min_dalle_on
from engine.batching.engine import Engine
from engine.events import ImageDone
from engine.request import DrawingRequest, SamplingSettings
from engine.runners import LogitsRunner, SamplingRunner, default_cache, logits_runner_on
from engine.runners.openvino.precision import CPU_PRECISIONS
from engine.runners.torch.runner import TorchRunner
from engine.text import tokenize_prompt
from engine.upstream.modules import AttentionBlock
from engine.weights.checkpoint import Checkpoint, load_checkpoint
from engine.weights.config import DetokenizerConfig, ModelConfig
from engine.weights.detokenizer import GridAttention, build_detokenizer
from engine.weights.models import MODELS
from tests.cpu import skip_unless_it_runs
from tests.parity.reference import MIN_DALLE_START, random_checkpoint, reference_logits
from training.caption import describe
from training.scene import random_scene

CPU = torch.device("cpu")
KINDS = ["torch", "openvino", "native"]
THREADS = 2  # of the OpenVINO and native runners; torch has its own setting
PROMPT = "a red circle on a blue background"
GREEDY = SamplingSettings(top_k=1, supercondition_factor=3.0)


def make_runner(kind: str, checkpoint: Checkpoint) -> LogitsRunner:
    if kind == "torch":
        return TorchRunner(checkpoint, CPU)
    skip_unless_it_runs(kind)
    return logits_runner_on(checkpoint, CPU_PRECISIONS["float32"], THREADS, default_cache(), runner=kind)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint("tiny", progress=False)


@pytest.fixture(scope="module")
def their_logits(checkpoint: Checkpoint) -> Callable[..., torch.Tensor]:
    """Return a function from forced tokens and a negative prompt to min-dalle's logits on Tiny, computed once for all runners."""
    compute = cache(lambda forced, negative: reference_logits(checkpoint, PROMPT, forced, negative))
    return lambda forced, negative="": compute(tuple(forced), negative)


@pytest.fixture(scope="module", params=KINDS)
def runner(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> LogitsRunner:
    return make_runner(request.param, checkpoint)


@pytest.fixture(autouse=True)
def min_dalle_leaves_threads_alone() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def our_logits(checkpoint: Checkpoint, runner: LogitsRunner, prompt: str, forced: list[int], negative: str = "") -> torch.Tensor:
    tokens = [tokenize_prompt(checkpoint.tokenizer, text, checkpoint.config) for text in (prompt, negative) if text]
    runner.rearrange([])
    runner.admit([runner.encode(*tokens)])
    steps = [runner.step([token], [i])[0].copy() for i, token in enumerate(forced)]
    runner.rearrange([])
    return torch.from_numpy(np.stack(steps))


def random_tokens(config: ModelConfig, count: int) -> list[int]:
    rng = Random(1)
    return [config.decoder_start_token_id, *(rng.randrange(config.logit_count) for _ in range(count - 1))]


def test_token_ids_are_text_tokenizers_on_varied_prompts(checkpoint: Checkpoint) -> None:
    rng = Random(3)
    prompts = [describe(*random_scene(rng), rng) for _ in range(180)]
    prompts += [word.upper() for word in prompts[:10]] + ["", "é 日本 ☃", "🍓 on ice", "a_b-c's 100%", "x" * 30] * 2
    assert len(prompts) == 200
    for prompt in prompts:
        theirs = checkpoint.tokenizer.tokenize(" ".join(prompt.split()))
        assert tokenize_prompt(checkpoint.tokenizer, prompt, checkpoint.config) == theirs[:64]


def test_logits_agree_on_tiny_under_forced_tokens(
    checkpoint: Checkpoint, runner: LogitsRunner, their_logits: Callable[..., torch.Tensor]
) -> None:
    forced = random_tokens(checkpoint.config, 256)
    theirs = their_logits(forced)
    ours = our_logits(checkpoint, runner, PROMPT, forced)
    assert theirs.std() > 0.5  # not all equal
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("negative", ["red", "two yellow hearts and a small green star at the top, blue background"])
def test_logits_agree_with_a_negative_prompt(
    checkpoint: Checkpoint, runner: LogitsRunner, their_logits: Callable[..., torch.Tensor], negative: str
) -> None:
    """A negative prompt is min-dalle's first row, in place of the empty prompt; it may be longer than the prompt."""
    forced = random_tokens(checkpoint.config, 64)
    theirs = their_logits(forced, negative)
    assert (theirs - their_logits(forced))[:, 0].std() > 0.1, "the first row is another"
    torch.testing.assert_close(our_logits(checkpoint, runner, PROMPT, forced, negative), theirs, atol=1e-3, rtol=0)


def test_greedy_tokens_are_equal_on_tiny(
    checkpoint: Checkpoint, runner: LogitsRunner, their_logits: Callable[..., torch.Tensor]
) -> None:
    engine = Engine(lambda: (checkpoint, SamplingRunner(runner, checkpoint.config)), max_batch_size=2)
    try:
        job = engine.submit(DrawingRequest(PROMPT, (1,), GREEDY))
        list(job.events())
    finally:
        engine.close()
    drawn = job.slots[0].tokens
    logits = their_logits([checkpoint.config.decoder_start_token_id, *drawn[:-1]])
    factor = GREEDY.supercondition_factor
    assert (logits[:, 0] * (1 - factor) + logits[:, 1] * factor).argmax(-1).tolist() == drawn
    assert len(set(drawn)) > 2  # not a blank image


@pytest.fixture(scope="module")
def small(checkpoint: Checkpoint) -> Checkpoint:
    """Return a random model that min-dalle can run: 16384 image tokens, min-dalle's first token, the VQGAN at its true sizes.

    Two layers are enough: other tests compare the logits of as many as Tiny has.
    """
    sizes = replace(
        checkpoint.config,
        encoder_layer_count=2,
        decoder_layer_count=2,
        embed_count=64,
        attention_head_count=4,
        glu_embed_count=96,
        image_vocab_count=2**14,
        decoder_start_token_id=MIN_DALLE_START,
        detokenizer=None,
    )
    return random_checkpoint(sizes, checkpoint.tokenizer)


@pytest.fixture(scope="module")
def small_and_light(small: Checkpoint) -> Checkpoint:
    """Return the same model with a detokenizer of narrow layers, for pictures of 512 x 512."""
    config = replace(small.config, detokenizer=DetokenizerConfig(2**8, (6, 5)))
    torch.manual_seed(0)
    light: Any = build_detokenizer(config).eval().requires_grad_(False)
    light.decoder.conv_out.weight.mul_(3)  # contrast
    return replace(small, config=config, detokenizer=light)


@pytest.fixture(scope="module")
def their_image(small: Checkpoint, small_and_light: Checkpoint) -> Callable[[bool], torch.Tensor]:
    """Return a function that draws with min-dalle, once for all runners.

    It draws one image [256, 256, 3] with its own detokenizer, or four as one seamless image [512, 512, 3] with the light one's
    layers in its own detokenizer, which arranges the tokens.
    """

    def draw(seamless: bool) -> torch.Tensor:
        min_dalle = min_dalle_on(small)
        for part in ("embedding", "post_quant_conv", "decoder") if seamless else ():
            setattr(min_dalle.detokenizer, part, getattr(small_and_light.detokenizer, part))
        stream = min_dalle.generate_raw_image_stream(
            PROMPT, seed=1, grid_size=2 if seamless else 1, is_seamless=seamless, top_k=1, supercondition_factor=3
        )
        return next(stream)

    return cache(draw)


# The native runner's pictures come from the same graph as OpenVINO's: one seamless picture of the two is enough.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("seamless", "kind"),
    [*((False, kind) for kind in KINDS), (True, "torch"), (True, "openvino")],
    ids=[*(f"apart-{kind}" for kind in KINDS), "seamless-torch", "seamless-openvino"],
)
def test_min_dalle_itself_draws_the_same_images(
    small: Checkpoint,
    small_and_light: Checkpoint,
    their_image: Callable[[bool], torch.Tensor],
    seamless: bool,
    kind: str,
) -> None:
    theirs = their_image(seamless)
    model = small_and_light if seamless else small
    runner = make_runner(kind, model)
    engine = Engine(lambda: (model, SamplingRunner(runner, model.config)), max_batch_size=4)
    try:
        seeds = (1, 2, 3, 4) if seamless else (1,)
        events = list(engine.submit(DrawingRequest(PROMPT, seeds, GREEDY, seamless=seamless)).events())
    finally:
        engine.close()
    ours = [torch.tensor(list(e.image.tobytes())).view(*e.image.size, 3) for e in events if isinstance(e, ImageDone)]
    # All four are the same greedy image, so their order in the seamless image doesn't matter.
    [image] = ours
    assert theirs.std() > 1, "not a blank image"
    assert (image - theirs).abs().max() <= 1


def test_min_dalles_attention_is_the_same_over_a_seamless_grid() -> None:
    """Of the VQGAN's layers only the attention depends on the size of the grid."""
    torch.manual_seed(0)
    theirs = AttentionBlock().requires_grad_(False)
    features = torch.randn(1, 2**9, 32, 32)
    torch.testing.assert_close(GridAttention(theirs)(features), theirs(features))


@pytest.mark.slow
@pytest.mark.parametrize("layers", [2, pytest.param(12, marks=pytest.mark.soak)])
def test_logits_and_greedy_tokens_agree_at_minis_sizes(checkpoint: Checkpoint, layers: int) -> None:
    sizes = MODELS["mini"].sizes
    assert sizes is not None and sizes.decoder_layer_count == 12
    sizes = replace(
        sizes, encoder_layer_count=layers, decoder_layer_count=layers, detokenizer=checkpoint.config.detokenizer
    )  # which computes no logits
    mini = random_checkpoint(sizes, checkpoint.tokenizer)
    forced = random_tokens(sizes, 24)
    theirs = reference_logits(mini, PROMPT, forced)
    for kind in KINDS:
        ours = our_logits(mini, make_runner(kind, mini), PROMPT, forced)
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
        assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


def test_the_first_token_is_the_configurations_not_min_dalles(checkpoint: Checkpoint, runner: LogitsRunner) -> None:
    assert MODELS["mini"].sizes is not None
    assert MODELS["mini"].sizes.decoder_start_token_id == 16384 != MIN_DALLE_START
    right = our_logits(checkpoint, runner, PROMPT, [checkpoint.config.decoder_start_token_id])
    wrong = our_logits(checkpoint, runner, PROMPT, [checkpoint.config.logit_count - 1])
    assert not torch.allclose(right, wrong, atol=1e-2)


def test_load_checkpoint_gives_ones_for_absent_scales() -> None:
    decoder = load_checkpoint("tiny", progress=False).decoder
    assert torch.equal(decoder.final_ln.weight, torch.ones_like(decoder.final_ln.weight))
