"""Whole images on an NVIDIA GPU: min-dalle, the torch runner and the CUDA runner, in turn.

The weights are random, and made on the GPU itself, but those of the server, which loads them from files.

python -m benchmarks.gpu --rounds 5 --json FILE    this part alone, without OpenVINO; else `make bench ARGS="--parts gpu"`
"""

from __future__ import annotations

import argparse
import gc
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.calling import draw, draw_together
from benchmarks.drawing import seconds
from benchmarks.figures import Figure, Figures, machine
from benchmarks.plan import PROMPT, Plan
from benchmarks.random_weights import SIZES, write_models_root
from benchmarks.reference import min_dalle_on
from benchmarks.server_process import our_command, running
from engine.batching.engine import Engine
from engine.request import IMAGE_TOKEN_COUNT, DrawingRequest
from engine.runners import Runner, SamplingRunner
from engine.runners.cuda.support import missing_on
from engine.runners.torch.runner import TorchRunner, choose_device
from engine.weights.checkpoint import Checkpoint, load_checkpoint
from engine.weights.config import ModelConfig
from engine.weights.detokenizer import build_detokenizer
from engine.weights.models import MODELS
from engine.weights.skeleton import build_decoder, build_encoder, without_weights
from host.threads import usable_threads

GPU_MODELS = ("mega", "mini")
IMAGES = (1, 9)  # beside min-dalle, which draws square numbers
FEW, MANY = 16, 64  # images at once; many callers, too
MIDDLE = IMAGE_TOKEN_COUNT // 2  # the position of a mean step


def measure_gpu(plan: Plan, figures: Figures, models: Sequence[str] = GPU_MODELS) -> None:
    """Measure whole images, steps and a server of each model; on another machine say what it lacks."""
    device = choose_device("auto")
    missing = missing_on(device)
    if missing is not None:
        print(f"gpu: not measured: {missing}", flush=True)
        return
    bandwidth = bandwidth_of(device)
    figures.add(Figure("gpu", f"{torch.cuda.get_device_name(device)}: memory read", "GB/s"), bandwidth / 1e9)
    for model in models:
        sizes = MODELS[model].sizes
        assert sizes is not None
        _measure_library(model.capitalize(), random_checkpoint_on(device, sizes), device, bandwidth, plan, figures)
        gc.collect()  # the server needs the memory
        torch.cuda.empty_cache()
        _measure_server(model, plan, figures)


def _measure_library(
    name: str, checkpoint: Checkpoint, device: torch.device, bandwidth: float, plan: Plan, figures: Figures
) -> None:
    from engine.runners.cuda.loading import proven_runner

    theirs = min_dalle_on(checkpoint, "cuda", torch.float16)
    torch.cuda.reset_peak_memory_stats(device)
    runner = proven_runner(checkpoint, device)
    with _engine(checkpoint, lambda: runner) as engine:
        _draw(engine, FEW)
    peak = torch.cuda.max_memory_allocated(device) / 1e9
    figures.add(Figure("gpu", f"{name}: peak memory with {FEW} images at once", "GB"), peak)
    runners: Mapping[str, Callable[[], Runner]] = {
        "ours": lambda: runner,
        "torch": lambda: SamplingRunner(TorchRunner(checkpoint, device), checkpoint.config),
    }
    with ExitStack() as stack:
        engines = {kind: stack.enter_context(_engine(checkpoint, make)) for kind, make in runners.items()}
        turns = [
            (images, kind)
            for _ in range(plan.rounds)
            for images in (*IMAGES, MANY)
            for kind in engines
            if (images, kind) != (MANY, "torch")
        ]
        for images, kind in dict.fromkeys(turns):  # warm up
            _draw(engines[kind], images)
        for images, kind in tqdm(turns, desc=f"{name} on the GPU", unit="drawing"):
            title = f"{name}, {images} {'image' if images == 1 else 'images'}"
            ours = seconds(partial(_draw, engines[kind], images))
            if kind == "torch":
                figures.add(Figure("gpu", f"{title}, torch runner", "s"), ours)
            elif images == MANY:
                figures.add(Figure("gpu", title, "images/s", "more"), images / ours)
            else:
                side = int(images**0.5)
                slow = seconds(partial(theirs.generate_image, PROMPT, seed=1, grid_size=side))  # it reads the pixels at its end
                figures.add(Figure("gpu", title, "s"), ours, slow)
    for images in (*IMAGES, MANY):
        step, limit = step_seconds(runner, images), _step_bytes(checkpoint, runner, images) / bandwidth
        figures.add(Figure("gpu", f"{name}, a step of {images}", "ms", "share", "limit of memory"), 1000 * step, 1000 * limit)


def _measure_server(model: str, plan: Plan, figures: Figures) -> None:
    """Measure the start of a server with weights in files, and many callers at once."""
    with tempfile.TemporaryDirectory() as folder:
        write_models_root(Path(folder), SIZES[model], model=model)
        flags = ["--models_root", folder, "--runner", "cuda", "--max_batch_size", str(MANY), "--max_batch_per_caller", str(MANY)]
        with running(our_command(*flags, "--max_queue", str(2 * MANY), model=model, threads=plan.threads)) as server:
            figures.add(Figure("gpu", f"{model.capitalize()}: start to ready", "s"), server.seconds_to_ready)
            draw(server.url, 0)
            draw_together(server.url, MANY)
            for _ in range(plan.rounds):
                together = draw_together(server.url, MANY)
                name = f"{model.capitalize()}, {MANY} callers at once over HTTP"
                figures.add(Figure("gpu", name, "images/s", "more"), MANY / together.total)


@contextmanager
def _engine(checkpoint: Checkpoint, make: Callable[[], Runner]) -> Iterator[Engine]:
    engine = Engine(lambda: (checkpoint, make()), MANY)
    try:
        yield engine
    finally:
        engine.close()


def _draw(engine: Engine, images: int) -> None:
    assert list(engine.submit(DrawingRequest(PROMPT, tuple(range(images)))).events())


def step_seconds(runner: Any, images: int) -> float:
    """Return the device's seconds for a step of images that are half drawn."""
    from engine.runners.cuda.runner import batch_for
    from engine.runners.runner import Draw
    from engine.sampler import uniforms

    request = DrawingRequest(PROMPT, (0,))
    runner.admit([runner.encode([0, 5, 6, 7, 8, 2])] * images, [Draw(request.sampling, uniforms(0))] * images)
    runner.force([5] * images, [MIDDLE] * images)
    step = runner._graph(batch_for(images))
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(32):
        step()
    end.record()
    end.synchronize()
    runner.rearrange([])
    return begin.elapsed_time(end) / 32 / 1000


def _step_bytes(checkpoint: Checkpoint, runner: Any, images: int) -> float:
    """Return the bytes that a step of half-drawn images must read: weights, keys and values."""
    weights, config = runner._decoder.weights, checkpoint.config
    matrices = [weights.head]
    for layer in weights.layers:
        matrices += [layer.self_qkv, layer.self_out, layer.text_query, layer.text_out, layer.glu_gates, layer.glu_out]
    key_and_value = 2 * config.decoder_layer_count * config.embed_count * weights.head.element_size()
    return sum(matrix.nbytes for matrix in matrices) + images * (2 * MIDDLE + 2 + 6) * key_and_value


def bandwidth_of(device: torch.device) -> float:
    """Return the bytes per second that a large sum reads."""
    data = torch.ones(2**29, device=device)  # 2 GiB
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    data.sum()
    begin.record()
    for _ in range(8):
        data.sum()
    end.record()
    end.synchronize()
    return 8 * data.nbytes / (begin.elapsed_time(end) / 1000)


def random_checkpoint_on(device: torch.device, sizes: ModelConfig) -> Checkpoint:
    """Build a model of random weights on a device, in float16 but for the detokenizer, with Tiny's vocabulary."""
    generator = torch.Generator(device).manual_seed(0)

    def filled(module: nn.Module, dtype: torch.dtype) -> Any:
        """Fill a module so that each product's results are as large as its inputs, as in trained models.

        One spread for all, 0.05, suits a width of 400. At Mega's 2048 attention's scores are five times as large, its softmax
        jumps from token to token, and rounding alone moves logits by a seventh of their spread: no runner can prove itself.
        """
        module = module.to(dtype).to_empty(device=device).eval().requires_grad_(False)
        for name, tensor in module.named_parameters():
            if tensor.dim() == 1:
                _ = tensor.fill_(1) if name.endswith("weight") else tensor.normal_(0, 0.05, generator=generator)
            else:  # [out, in], [out, in, height, width], or an embedding's [tokens, width]
                tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
        return module

    indices: Callable[[int], Tensor] = partial(torch.arange, device=device)
    with without_weights():
        encoder, decoder, detokenizer = build_encoder(sizes), build_decoder(sizes), build_detokenizer(sizes)
    encoder, decoder = filled(encoder, torch.float16), filled(decoder, torch.float16)
    encoder.pose_tokens = indices(sizes.text_token_count)[None]
    for part in (decoder, *decoder.layers):
        part.token_indices = indices(IMAGE_TOKEN_COUNT)
    tokenizer = load_checkpoint("tiny", progress=False).tokenizer
    return Checkpoint(sizes, tokenizer, encoder, decoder, filled(detokenizer, torch.float32))


def main() -> None:
    """Measure this part alone; print a table and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure min-dalle and ours on this GPU.")
    parser.add_argument("--rounds", type=int, default=5, help="the number of repetitions (default: 5)")
    parser.add_argument("--models", nargs="+", choices=GPU_MODELS, default=list(GPU_MODELS), help="whose sizes (default: all)")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results.json"), metavar="FILE", help="for all figures")
    given = parser.parse_args()
    packages = {package: version(package) for package in ("min-dalle", "torch")}
    about = {"machine": machine(), "rounds": given.rounds, "date": date.today().isoformat(), "python": platform.python_version()}
    figures = Figures(about | packages, given.json)
    measure_gpu(Plan(usable_threads(0), parts=("gpu",), rounds=given.rounds), figures, given.models)
    print(f"\n{figures.table()}\n\nEvery round: {given.json}")


if __name__ == "__main__":
    main()
