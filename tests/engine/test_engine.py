"""Hold the engine on real weights, Tiny's: one batch for all, the same image in any company, cancellation, failure, the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from random import Random

import pytest
import torch
from torch import Tensor

from engine.checkpoint import Checkpoint
from engine.engine import Engine
from engine.errors import EngineClosed, GenerationFailed
from engine.job import Job
from engine.request import ImageDone, ImageRequest, Preview, Progress, SamplingSettings
from engine.runners import load_runner
from engine.runners.torch import EncodedPrompt, TorchRunner


class WatchedRunner:
    """Tiny's runner; it notes the batch sizes, and fails or waits when told to."""

    def __init__(self, runner: TorchRunner) -> None:
        self._runner = runner
        self.batch_sizes: list[int] = []
        self.encoded = 0
        self.is_broken = False
        self.may_step = threading.Event()
        self.may_step.set()

    def encode(self, text_tokens: Sequence[int]) -> EncodedPrompt:
        self.encoded += 1
        return self._runner.encode(text_tokens)

    def admit(self, prompts: Sequence[EncodedPrompt]) -> None:
        self._runner.admit(prompts)

    def rearrange(self, order: Sequence[int]) -> None:
        self._runner.rearrange(order)

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        self.may_step.wait(60)
        self.batch_sizes.append(len(tokens))
        if self.is_broken:
            self.is_broken = False
            raise RuntimeError("a wire came loose")
        return self._runner.step(tokens, positions)

    detokenize = property(lambda self: self._runner.detokenize)


@pytest.fixture(scope="module")
def loaded() -> tuple[Checkpoint, TorchRunner]:
    checkpoint, runner = load_runner("tiny")
    assert isinstance(runner, TorchRunner)
    return checkpoint, runner


@pytest.fixture
def runner(loaded: tuple[Checkpoint, TorchRunner]) -> WatchedRunner:
    loaded[1].rearrange([])
    return WatchedRunner(loaded[1])


@pytest.fixture
def engine(loaded: tuple[Checkpoint, TorchRunner], runner: WatchedRunner) -> Iterator[Engine]:
    engine = Engine(lambda: (loaded[0], runner), max_batch_size=4)
    yield engine
    runner.may_step.set()
    engine.close()


def request(prompt: str = "a red circle", seeds: tuple[int, ...] = (1,), **fields: object) -> ImageRequest:
    return ImageRequest(prompt, seeds, SamplingSettings(0.8, 64, 2.5), **fields)  # type: ignore[arg-type]


def images_of(job: Job) -> dict[int, bytes]:
    return {event.index: event.image.tobytes() for event in job.events() if isinstance(event, ImageDone)}


def test_a_request_gives_progress_and_its_image(engine: Engine) -> None:
    events = list(engine.submit(request(seeds=(41,))).events())
    assert [e.tokens_drawn for e in events if isinstance(e, Progress)] == list(range(8, 257, 8))
    done = events[-1]
    assert isinstance(done, ImageDone)
    assert (done.index, done.seed, done.image.size, done.image.mode) == (0, 41, (256, 256), "RGB")


def test_previews_come_every_32_tokens_and_are_grey_where_nothing_is_drawn(engine: Engine) -> None:
    previews = [e for e in engine.submit(request(previews=True)).events() if isinstance(e, Preview)]
    assert [preview.tokens_drawn for preview in previews] == list(range(32, 256, 32))
    first = previews[0].image  # 32 tokens: two of sixteen rows
    assert first.crop((0, 32, 256, 256)).getcolors() == [(256 * 224, (128, 128, 128))]
    assert first.crop((0, 0, 256, 32)).getcolors(256 * 32) != [(256 * 32, (128, 128, 128))]


def test_an_image_is_the_same_to_the_bit_alone_and_among_others_who_come_and_go(engine: Engine) -> None:
    rng = Random(5)
    prompts = ["a red circle", "two yellow hearts on a very dark black background", "star", "a pink ring above a black square"]
    asked = [request(rng.choice(prompts), tuple(rng.randrange(9) for _ in range(rng.randint(1, 3)))) for _ in range(8)]
    alone = [images_of(engine.submit(one)) for one in asked]
    jobs = []
    for one in asked:  # the next comes at a random moment of the one before
        jobs.append(engine.submit(one))
        for _, _ in zip(range(rng.randrange(20)), jobs[-1].events(), strict=False):
            pass
    companions = [engine.submit(one) for one in asked]
    assert [images_of(job) for job in companions] == alone
    for job in jobs:
        engine.cancel(job)


def test_two_callers_at_once_are_drawn_in_one_batch_and_each_prompt_is_encoded_once(
    engine: Engine, runner: WatchedRunner
) -> None:
    runner.may_step.clear()
    jobs = [engine.submit(request("a star", (1, 2))), engine.submit(request("a heart", (3,)))]
    runner.may_step.set()
    for job in jobs:
        images_of(job)
    assert runner.encoded == 2
    assert max(runner.batch_sizes) == 3
    assert len(runner.batch_sizes) < 2 * 256


def test_more_images_than_slots_wait_and_none_is_lost(engine: Engine, runner: WatchedRunner) -> None:
    assert images_of(engine.submit(request(seeds=tuple(range(10))))).keys() == set(range(10))
    assert max(runner.batch_sizes) == 4


def test_cancelling_frees_the_slots_by_the_next_step(engine: Engine, runner: WatchedRunner) -> None:
    job = engine.submit(request(seeds=(1, 2, 3, 4)))
    next(iter(job.events()))
    engine.cancel(job)
    other = engine.submit(request())
    images_of(other)
    assert not [size for size in runner.batch_sizes[-250:] if size > 1]
    assert runner.batch_sizes.count(4) < 256


def test_a_step_that_fails_ends_its_requests_and_harms_no_later_one(engine: Engine, runner: WatchedRunner) -> None:
    expected = images_of(engine.submit(request()))
    runner.is_broken = True
    with pytest.raises(GenerationFailed) as failure:
        images_of(engine.submit(request()))
    assert "wire" not in str(failure.value)
    assert "wire" in str(failure.value.__cause__)
    assert images_of(engine.submit(request())) == expected


def test_closing_ends_what_is_under_way_and_refuses_more(loaded: tuple[Checkpoint, TorchRunner], runner: WatchedRunner) -> None:
    engine = Engine(lambda: (loaded[0], runner), max_batch_size=1)
    job = engine.submit(request(seeds=(1, 2)))
    engine.close()
    with pytest.raises(EngineClosed):
        images_of(job)
    with pytest.raises(EngineClosed):
        engine.submit(request())


def test_seamless_images_are_one_picture_without_seams(engine: Engine) -> None:
    (event,) = (e for e in engine.submit(request(seeds=(1, 2, 3, 4, 5, 6), seamless=True)).events() if isinstance(e, ImageDone))
    assert event.image.size == (3 * 256, 2 * 256)


def test_a_row_does_not_depend_on_the_others(loaded: tuple[Checkpoint, TorchRunner]) -> None:
    """The reason for the above: a row's logits are bitwise the same in batches of 1 to 9."""
    _, runner = loaded
    runner.rearrange([])
    prompt, other = runner.encode([0, 5, 6, 2]), runner.encode([0, *range(10, 50), 2])
    runner.admit([prompt])
    alone = torch.stack([runner.step([token], [i])[0] for i, token in enumerate((4038, 3, 70, 900))])
    for neighbours in range(1, 9):
        runner.rearrange([])
        runner.admit([other] * neighbours)
        for i in range(neighbours * 7):
            runner.step([i] * neighbours, [i] * neighbours)
        runner.admit([prompt])
        for i, token in enumerate((4038, 3, 70, 900)):
            at = neighbours * 7 + i
            logits = runner.step([at] * neighbours + [token], [at] * neighbours + [i])
            assert torch.equal(logits[-1], alone[i])
    runner.rearrange([])
