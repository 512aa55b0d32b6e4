"""The CUDA runner at work on a GPU: in the engine, short of memory, and over HTTP."""

from __future__ import annotations

import base64
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import torch

from dalle_model import PREVIEWS, DalleModel, Preview
from engine.batching.engine import Engine
from engine.events import ImageDone
from engine.request import DrawingRequest, SamplingSettings
from engine.runners import load_runner
from engine.runners.runner import Draw
from engine.sampler import uniforms
from tests.end_to_end.server_process import ServerProcess
from tests.gpu.models import model_on, sizes_of

GIB = 2**30


def test_tiny_is_drawn_by_the_proven_runner(gpu: torch.device, caplog: pytest.LogCaptureFixture) -> None:
    from engine.runners.cuda.runner import CudaRunner

    with caplog.at_level(logging.WARNING):
        _, runner = load_runner("tiny", device="cuda")
    assert isinstance(runner, CudaRunner) and caplog.messages == []


def test_a_batch_is_drawn_without_a_word_to_the_host(gpu: torch.device) -> None:
    from engine.runners.cuda.runner import CudaRunner

    runner = CudaRunner(model_on(gpu, sizes_of("mini", 2), torch.float16), gpu)
    runner.admit([runner.encode([0, 5, 2])] * 3, [Draw(SamplingSettings(), uniforms(seed)) for seed in range(3)])
    runner.draw(1)  # captures
    step = runner._graph(4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(8):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert runner.draw(1).tokens.shape == (3, 1)


def test_sixteen_images_of_mega_are_drawn_within_8_gib(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.runners.cuda import half_detokenizer
    from engine.runners.cuda.loading import proven_runner

    monkeypatch.setattr(half_detokenizer, "_PLENTY", 2**60)  # as on a GPU that has no more
    checkpoint = model_on(gpu, sizes_of("mega"), torch.float16)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    runner = proven_runner(checkpoint, gpu)
    engine = Engine(lambda: (checkpoint, runner), 16)
    try:
        events = list(engine.submit(DrawingRequest("a red circle", tuple(range(16)), SamplingSettings())).events())
    finally:
        engine.close()
    assert sum(isinstance(event, ImageDone) for event in events) == 16
    assert torch.cuda.max_memory_allocated() < 7.5 * GIB, "CUDA itself takes half of one"


def test_memory_that_runs_out_halves_the_batch_and_all_images_are_drawn(
    gpu: torch.device, caplog: pytest.LogCaptureFixture
) -> None:
    from engine.runners.cuda.runner import CudaRunner

    checkpoint = model_on(gpu, sizes_of("mini"), torch.float16)
    runner = CudaRunner(checkpoint, gpu)
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 0.3 * GIB  # 33 slots need 0.5 more than 17
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(gpu).total_memory)
    engine = Engine(lambda: (checkpoint, runner), 32)
    try:
        events = list(engine.submit(DrawingRequest("a red circle", tuple(range(20)), SamplingSettings())).events())
        limit = engine.state.batch_limit
    finally:
        engine.close()
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert sum(isinstance(event, ImageDone) for event in events) == 20 and limit < 20
    assert any("memory ran out with 20 images in the batch" in message for message in caplog.messages)


def test_a_server_draws_the_same_image_for_one_caller_and_for_many(gpu: torch.device) -> None:
    def draw(url: str, seed: int) -> bytes:
        body = {"text": "a red circle on a blue background", "seed": seed, "img_format": "PNG"}
        answer = requests.post(f"{url}/dalle", json=body, timeout=60)
        answer.raise_for_status()
        return base64.b64decode(answer.json()["generatedImgs"][0])

    with ServerProcess("--device", "cuda", "--runner", "cuda") as server, ThreadPoolExecutor(24) as pool:
        alone = [draw(server.url, seed) for seed in (1, 2)]
        together = list(pool.map(lambda seed: draw(server.url, seed), range(24)))
    assert together[1:3] == alone and len(set(together)) > 12


def test_every_kind_of_request_is_drawn_and_drawn_again(gpu: torch.device) -> None:
    """Previews, candidates, a negative prompt, a seamless picture, and a caller who leaves."""
    sampling = SamplingSettings(best_of=3)
    wanted = [
        DrawingRequest("a red circle", (1, 2), previews=PREVIEWS),
        DrawingRequest("a blue star", (3,), sampling, negative_prompt="a circle"),
        DrawingRequest("a pink ring", (4, 5, 6, 7), seamless=True),
    ]

    def draw(model: DalleModel) -> list[list[bytes]]:
        left = model.start(DrawingRequest("two yellow hearts", (9,)))
        drawings = [model.start(request) for request in wanted]
        left.cancel()
        return [[image.tobytes() for image in drawing.result()] for drawing in drawings]

    with DalleModel("tiny", device="cuda", runner="cuda") as model:
        first = draw(model)
        previews = [event for event in model.start(wanted[0]).events() if isinstance(event, Preview)]
        assert draw(model) == first
    assert [len(images) for images in first] == [2, 1, 1] and previews
