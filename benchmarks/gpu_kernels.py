"""Each kernel of a step alone, in the sizes that make sense: which is fastest on this GPU, and how far memory is from its limit.

python -m benchmarks.gpu_kernels                   all, in about a minute on an H200
python -m benchmarks.gpu_kernels --models mega --parts products attention

It ends with what to write into engine/runners/cuda/tiles.py. A tile whose bits are not the reference's is marked, and not chosen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu import GPU_MODELS, bandwidth_of, random_checkpoint_on, step_seconds
from engine.request import IMAGE_TOKEN_COUNT, SamplingSettings
from engine.runners.cuda.support import missing_on
from engine.runners.cuda.tiles import QUARTERS, ROWS, Chip, Tile, tile_bytes, tile_for
from engine.runners.torch.runner import choose_device
from engine.weights.config import ModelConfig
from engine.weights.models import MODELS
from host.threads import usable_threads

IMAGES = (1, 9, 64)
MIDDLE = IMAGE_TOKEN_COUNT // 2  # the position of a mean step
LEAST_GAIN = 0.97  # a tile replaces the rule's if it takes at most this part of its time
_READ = 3 * 10**8  # bytes of weights that follow each other, so that no cache holds them


@dataclass(frozen=True)
class Shape:
    """A product's weights [n, k]."""

    name: str
    n: int
    k: int


def shapes_of(config: ModelConfig) -> list[Shape]:
    """Return the shapes of a model's weights as the decoder fuses and pads them."""
    from engine.runners.cuda.weights import LOGITS_UNIT, MIDDLE_UNIT, padded

    width, middle = config.embed_count, padded(config.glu_embed_count, MIDDLE_UNIT)
    return [
        Shape("qkv", 3 * width, width),
        Shape("outputs", width, width),
        Shape("gates", 2 * middle, width),
        Shape("GLU out", width, middle),
        Shape("logits", padded(config.logit_count, LOGITS_UNIT), width),
    ]


def candidates(weight: Tensor, rows: int, chip: Chip) -> list[Tile]:
    """Return the tiles to try for weights [N, K] in 16 bits and up to `rows` rows: first the rule's, then others that fit."""
    n, k = weight.shape
    heights = {16: (16,), 32: (16, 32), 64: (32, 64), 128: (32, 64)}[rows]
    tried = [
        Tile(*each)
        for each in product(heights, (16, 32, 64), (32, 64, 128), (3, 4, 6, 8))
        if rows > 32 or each[1] < 64  # too few programs
        if each[0] >= min(rows, 32) or each[1] == 32  # too much reading of rows
        if rows <= 32 or (each[1] > 16 and each[3] < 6)
    ]
    fitting = [
        tile
        for tile in tried
        if n % tile.columns == 0 and k // QUARTERS % tile.depth == 0
        # So many bytes on their way that memory is busy, and no more than fits.
        if 3 * 2**14 <= tile_bytes(weight, tile) * (tile.stages - 1) <= min(chip.program_memory, 2**17)
    ]
    return list(dict.fromkeys([tile_for(weight, rows, chip), *fitting]))


Launch = Callable[..., None]  # engine.runners.cuda.launching's
Ways = Mapping[str, Sequence[Callable[[Launch], object]]]  # names, and works that differ in their inputs


class Bench:
    """A GPU, the bytes per second that it reads, and the time until which to go on."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.chip = device, Chip.of(device)
        self.bandwidth = bandwidth_of(device)
        self._end = time.monotonic() + seconds
        self.measured: dict[tuple[int, int, int], Tile] = {}
        self._generator = torch.Generator(device).manual_seed(0)

    def random(self, *shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
        """Return random numbers on the device, with a spread that keeps sums small."""
        return torch.randn(shape, device=self.device, generator=self._generator).mul_(shape[-1] ** -0.5).to(dtype)

    def microseconds(self, works: Sequence[Callable[[], object]]) -> float:
        """Return the mean time of works in a graph: the least of a few rounds."""
        for work in works[:2]:
            work()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for work in works:
                work()
        graph.replay()
        return min(self._replay(graph) for _ in range(4)) / len(works)

    def _replay(self, graph: torch.cuda.CUDAGraph) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        return 1000 * begin.elapsed_time(end)

    def is_over(self) -> bool:
        """Return whether the time is up."""
        return time.monotonic() > self._end

    def compare(self, name: str, ways: Ways, size: float = 0, check: Callable[[], str] = str) -> None:
        """Time ways to do the same, each for several inputs, and print them; `check` tells what is wrong with the last result."""
        from engine.runners.cuda.launching import Compilation, launch

        compilation = Compilation()
        for works in ways.values():
            works[0](compilation.launch)
        compilation.run(self.device, usable_threads(0))
        for way, works in ways.items():
            taken = self.microseconds([partial(work, launch) for work in works])
            works[0](launch)
            self.line(name, way, taken, size, check())

    def line(self, name: str, way: str, microseconds: float, size: float = 0, note: str = "") -> None:
        """Print a measurement; `size` bytes must be read and written."""
        share = f"{1e6 * size / self.bandwidth / microseconds:5.0%}" if size else " " * 5
        print(f"  {name:<30} {way:<30} {microseconds:9.2f} us {share} {note}", flush=True)


def measure_products(bench: Bench, config: ModelConfig) -> None:
    """Time the products of a model's weights in all candidates for 2, 18 and 128 rows."""
    from engine.runners.cuda.launching import Compilation
    from engine.runners.cuda.products import run_product

    compilation = Compilation()
    for shape, images in product(shapes_of(config), IMAGES):
        weight = torch.empty((shape.n, shape.k), dtype=torch.float16, device="meta")
        x, y = (torch.empty((2 * images, each), dtype=torch.float16, device="meta") for each in (shape.k, shape.n))
        for tile in candidates(weight, rows_for(2 * images), bench.chip):
            run_product(x, weight, y, tile, compilation.launch)
    begin = time.monotonic()
    compilation.run(bench.device, usable_threads(0))
    print(f"  compiled in {time.monotonic() - begin:.1f} s", flush=True)
    for shape in shapes_of(config):
        count = max(3, min(96, _READ // (2 * shape.n * shape.k)))
        weights = [bench.random(shape.n, shape.k) for _ in range(count)]
        for images in IMAGES:
            if bench.is_over():
                return
            _measure_product(bench, shape, weights, 2 * images)


def rows_for(rows: int) -> int:
    """Return the least of `ROWS` that holds a number of rows."""
    return next(each for each in ROWS if each >= rows)


def _measure_product(bench: Bench, shape: Shape, weights: list[Tensor], rows: int) -> None:
    from engine.runners.cuda.products import run_product

    x, y = bench.random(rows, shape.k), torch.empty((rows, shape.n), device=bench.device, dtype=torch.float16)
    reference = torch.empty_like(y)
    run_product(x, weights[0], reference, tile_for(weights[0], ROWS[0], bench.chip))
    size = 2 * (shape.n * shape.k + rows * (shape.n + shape.k))
    found: list[tuple[float, Tile, bool]] = []
    for tile in candidates(weights[0], rows_for(rows), bench.chip):
        with suppress(Exception):  # too much for this GPU
            y.fill_(torch.nan)
            run_product(x, weights[0], y, tile)
            is_exact = torch.equal(y, reference)
            works = [partial(run_product, x, weight, y, tile) for weight in weights]
            found.append((bench.microseconds(works), tile, is_exact))
    cublas = bench.microseconds([partial(torch.mm, x, weight.t(), out=y) for weight in weights])
    name = f"{shape.name} {shape.n} x {shape.k}, {rows} rows"
    if not found:
        print(f"  {name}: no tile works", flush=True)
        return
    rule = tile_for(weights[0], rows_for(rows), bench.chip)
    best = sorted(found, key=lambda each: each[0])
    rules = [each for each in found if each[1] == rule]
    for microseconds, tile, is_exact in dict.fromkeys([*rules, *best[:3]]):
        notes = [note for note, is_true in (("the rule's", tile == rule), ("OTHER BITS", not is_exact)) if is_true]
        bench.line(name, text(tile), microseconds, size, ", ".join(notes))
    bench.line(name, "cuBLAS", cublas, size)
    exact = [each for each in best if each[2]]
    if exact and (not rules or exact[0][0] <= LEAST_GAIN * rules[0][0]):
        bench.measured[rows_for(rows), shape.n, shape.k] = exact[0][1]


def text(tile: Tile) -> str:
    """Return a tile as it is written."""
    return f"Tile({tile.rows}, {tile.columns}, {tile.depth}, {tile.stages})"


def measure_attention(bench: Bench, config: ModelConfig) -> None:
    """Time both kinds of attention over blocks and warps. All must come close to torch's; one is chosen for any batch."""
    for images, position in (*((images, MIDDLE) for images in IMAGES), (9, IMAGE_TOKEN_COUNT - 1)):
        _measure_image_attention(bench, config, images, position)
    for images in IMAGES:
        _measure_text_attention(bench, config, images)


def _measure_image_attention(bench: Bench, config: ModelConfig, images: int, position: int) -> None:
    from engine.runners.cuda.kernels.attention import image_attention_kernel

    heads, width, rows = config.attention_head_count, config.embed_count, 2 * images
    d = width // heads
    caches = bench.random(4 if images > 9 else 12, 2, rows, heads, IMAGE_TOKEN_COUNT, d)
    qkv, mixed = bench.random(rows, 3 * width), torch.empty((rows, width), device=bench.device, dtype=torch.float16)
    slots = torch.arange(images, device=bench.device, dtype=torch.int32)
    positions = torch.full((images,), position, device=bench.device, dtype=torch.int32)
    queries, *new = qkv.view(rows, 3, heads, 1, d).transpose(0, 1).float()
    all_keys, all_values = (
        torch.cat([cache[..., :position, :].float(), own], 2) for cache, own in zip(caches[0], new, strict=True)
    )
    expected = F.scaled_dot_product_attention(queries, all_keys, all_values).flatten(1)

    def attend(cache: Tensor, block: int, warps: int, stages: int, launch: Launch) -> None:
        launch(
            image_attention_kernel, (rows, heads), qkv, cache[0], cache[1], mixed, slots, positions, width, heads,
            SCALE=d**-0.5, D=d, LENGTH=IMAGE_TOKEN_COUNT, BLOCK=block, STAGES=stages, num_warps=warps,
        )  # fmt: skip

    def check() -> str:
        error = float((mixed.float() - expected).norm() / expected.norm())
        mixed.fill_(torch.nan)
        return "" if error < 2e-3 else f"WRONG: an error of {error:.2g}"

    ways = [
        (64, 2, 3),
        (64, 4, 3),
        (64, 1, 3),
        (32, 1, 5),
        (32, 2, 5),
        (16, 1, 9),
        (128, 4, 2),
        (128, 4, 1),
        (128, 2, 1),
        (64, 2, 1),
    ]
    works = {_blocks(*way): [partial(attend, cache, *way) for cache in caches] for way in ways}
    bench.compare(f"attention, {images} at {position}", works, rows * position * width * 4, check)


def _measure_text_attention(bench: Bench, config: ModelConfig, images: int) -> None:
    from engine.runners.cuda.kernels.attention import text_attention_kernel

    heads, width, length, rows = config.attention_head_count, config.embed_count, config.text_token_count, 2 * images
    d = width // heads
    caches = bench.random(12, 2, rows, heads, length, d)
    queries, mixed = bench.random(rows, width), torch.empty((rows, width), device=bench.device, dtype=torch.float16)
    slots = torch.arange(images, device=bench.device, dtype=torch.int32)
    tokens = torch.tensor([2, 12], device=bench.device, dtype=torch.int32).repeat(images)

    def attend(cache: Tensor, block: int, warps: int, stages: int, launch: Launch) -> None:
        launch(
            text_attention_kernel, (rows, heads), queries, cache[0], cache[1], mixed, slots, tokens, width, heads,
            SCALE=d**-0.5, D=d, LENGTH=length, BLOCK=block, STAGES=stages, num_warps=warps,
        )  # fmt: skip

    ways = [(16, 1, 1), (16, 2, 1), (16, 4, 1), (16, 1, 3), (32, 1, 1), (64, 4, 1)]
    works = {_blocks(*way): [partial(attend, cache, *way) for cache in caches] for way in ways}
    bench.compare(f"text attention, {images}", works)


def _blocks(block: int, warps: int, stages: int) -> str:
    return f"block {block}, warps {warps}, stages {stages}"


def measure_norms(bench: Bench, config: ModelConfig) -> None:
    """Time the norms over warps."""
    from engine.runners.cuda.decoder import EPSILON, power_of_two
    from engine.runners.cuda.kernels.norms import add_norm_kernel, gated_norm_kernel

    width, middle = config.embed_count, shapes_of(config)[3].k
    norms, middle_norm = bench.random(4, width), bench.random(2, middle)
    for images in IMAGES:
        rows = 2 * images
        state, added = bench.random(rows, width, dtype=torch.float32), bench.random(rows, width)
        gates, normed = bench.random(rows, 2 * middle), torch.empty((rows, middle), device=bench.device, dtype=torch.float16)

        def add_norm(warps: int, launch: Launch, state: Tensor = state, added: Tensor = added, normed: Tensor = normed) -> None:
            launch(
                add_norm_kernel, (len(state),), state, added, *norms, normed, width, EPSILON,
                IS_NORMED=True, BLOCK=power_of_two(width), num_warps=warps,
            )  # fmt: skip

        def gated_norm(warps: int, launch: Launch, gates: Tensor = gates, normed: Tensor = normed) -> None:
            launch(
                gated_norm_kernel, (len(gates),), gates, *middle_norm, normed, middle, config.glu_embed_count, EPSILON,
                BLOCK=power_of_two(middle), num_warps=warps,
            )  # fmt: skip

        for name, work in (("add and norm", add_norm), ("gated norm", gated_norm)):
            bench.compare(f"{name}, {images}", {f"warps {warps}": [partial(work, warps)] * 24 for warps in (4, 8, 16)})


def measure_draw(bench: Bench, config: ModelConfig) -> None:
    """Time the draw from random logits over warps."""
    from engine.runners.cuda.decoder import power_of_two
    from engine.runners.cuda.kernels.drawing import draw_kernel
    from engine.runners.cuda.slots import Slots

    for images in (1, 64):
        slots = Slots(replace(config, decoder_layer_count=1), images, bench.device, torch.float16)
        slots.factors.fill_(16)
        slots.top_ks.fill_(256)
        slots.uniforms.fill_(0.5)
        logits = bench.random(2 * images, config.logit_count, dtype=torch.float32) * config.logit_count**0.5
        ids = torch.arange(images, device=bench.device, dtype=torch.int32)

        def draw(warps: int, launch: Launch, slots: Slots = slots, logits: Tensor = logits, ids: Tensor = ids) -> None:
            launch(
                draw_kernel, (len(ids),), logits, ids, slots.tokens, slots.positions, slots.uniforms, slots.factors,
                slots.temperatures, slots.top_ks, slots.asks_likelihood, slots.drawn, slots.likelihoods, slots.not_finite,
                config.logit_count, logits.shape[1], slots.idle,
                BLOCK=power_of_two(config.logit_count), LENGTH=IMAGE_TOKEN_COUNT, num_warps=warps, enable_fp_fusion=False,
            )  # fmt: skip

        bench.compare(f"draw, {images}", {f"warps {warps}": [partial(draw, warps)] * 8 for warps in (8, 16, 32)})


def measure_steps(bench: Bench, config: ModelConfig) -> None:
    """Time whole steps and the detokenizer, with kernels behind each other and overlapping, which must draw the same."""
    from engine.runners.cuda.compiling import step_kernels
    from engine.runners.cuda.launching import LEAST_CAPABILITY, launch, launch_overlapping
    from engine.runners.cuda.runner import CudaRunner
    from engine.runners.runner import Draw
    from engine.sampler import uniforms

    ways = {"one after the other": launch}
    if torch.cuda.get_device_capability(bench.device) >= LEAST_CAPABILITY:
        ways["overlapping"] = launch_overlapping
    checkpoint = random_checkpoint_on(bench.device, config)
    expected: dict[int, Any] = {}
    for title, way in ways.items():
        step_kernels(config, torch.float16, bench.device, way).run(bench.device, usable_threads(0))
        runner = CudaRunner(checkpoint, bench.device, launch=way)
        for images in IMAGES:
            prompt = runner.encode([0, *range(5, 14), 2])
            runner.admit([prompt] * images, [Draw(SamplingSettings(), uniforms(seed)) for seed in range(images)])
            tokens = np.concatenate([runner.draw(8).tokens for _ in range(IMAGE_TOKEN_COUNT // 8)], 1)
            runner.rearrange([])
            note = "" if np.array_equal(tokens, expected.setdefault(images, tokens)) else "OTHER TOKENS"
            if not np.array_equal(tokens[0], expected[IMAGES[0]][0]):
                note += "OTHER TOKENS THAN ALONE"
            bench.line(f"a step of {images}", title, 1e6 * step_seconds(runner, images), note=note)
        if way is launch:
            for images in IMAGES:
                grids = np.random.default_rng(0).integers(0, config.logit_count, (images, 16, 16))
                times = [_seconds(partial(runner.detokenize, grids)) for _ in range(3)]
                bench.line(f"detokenize {images}", "", 1e6 * min(times))
        del runner
        torch.cuda.empty_cache()


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


MEASURES = {
    "products": measure_products,
    "attention": measure_attention,
    "norms": measure_norms,
    "draw": measure_draw,
    "steps": measure_steps,
}


def main() -> None:
    """Measure the parts that were asked for, and print tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_kernels", description="Time each kernel of a step alone.")
    parser.add_argument("--models", nargs="+", choices=GPU_MODELS, default=list(GPU_MODELS), help="whose sizes (default: all)")
    parser.add_argument("--parts", nargs="+", choices=list(MEASURES), default=list(MEASURES), help="what to time (default: all)")
    parser.add_argument("--seconds", type=float, default=60, help="no product is begun later (default: 60)")
    given = parser.parse_args()
    device = choose_device("auto")
    missing = missing_on(device)
    if missing is not None:
        print(f"not measured: {missing}")
        return
    bench = Bench(device, given.seconds)
    print(f"{torch.cuda.get_device_name(device)}, {bench.bandwidth / 1e12:.2f} TB/s read, torch {torch.__version__}", flush=True)
    with torch.inference_mode():
        for model, part in ((model, part) for part in given.parts for model in given.models):
            sizes = MODELS[model].sizes
            assert sizes is not None
            print(f"{model.capitalize()}: {part}", flush=True)
            MEASURES[part](bench, sizes)
    lines = "\n".join(f"    {key}: {text(tile)}," for key, tile in sorted(bench.measured.items()))
    print(f"\nMEASURED: Mapping[tuple[int, int, int], Tile] = {{\n{lines}\n}}")


if __name__ == "__main__":
    main()
