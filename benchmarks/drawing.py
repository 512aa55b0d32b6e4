"""Time whole images, ours beside min-dalle, at a model's true sizes with random weights: time doesn't depend on the values.

    python -m benchmarks.drawing --images 1 4 --rounds 3

Both run in this process, in turn, on the same modules and threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import torch
from tqdm import tqdm

from benchmarks.figures import machine, ratio, spread
from benchmarks.reference import min_dalle_on, random_checkpoint
from engine.checkpoint import Checkpoint, load_checkpoint
from engine.config import MODELS
from engine.engine import Engine
from engine.request import IMAGE_TOKEN_COUNT, ImageRequest
from engine.runners.torch import TorchRunner

PROMPT = "a red circle on a blue background"


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rounds(checkpoint: Checkpoint, images: int, count: int) -> Iterator[tuple[float, float]]:
    """Yield (min-dalle's seconds, ours) for `count` rounds, in turn; `images` is a square number."""
    theirs = min_dalle_on(checkpoint)
    engine = Engine(lambda: (checkpoint, TorchRunner(checkpoint, torch.device("cpu"))), images)
    request = ImageRequest(PROMPT, tuple(range(images)))
    try:
        list(engine.submit(request).events())  # warm
        for _ in range(count):
            slow = seconds(lambda: theirs.generate_image(PROMPT, seed=1, grid_size=int(images**0.5)))
            yield slow, seconds(lambda: list(engine.submit(request).events()))
    finally:
        engine.close()


def main(arguments: list[str] | None = None) -> None:
    """Print a table: seconds for whole images, min-dalle's and ours, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_version", choices=["mini", "mega"], default="mini")
    parser.add_argument("--images", type=int, nargs="+", choices=[1, 4, 9], default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    config = MODELS[options.model_version].sizes
    assert config is not None
    checkpoint = random_checkpoint(config, load_checkpoint("tiny", progress=False).tokenizer)
    lines = ["| images | min-dalle 0.4.11 | ours (torch, float32) | ratio |", "| --- | --- | --- | --- |"]
    for images in options.images:
        bar = tqdm(rounds(checkpoint, images, options.rounds), total=options.rounds, desc=f"{images} images", unit="round")
        slow, fast = zip(*bar, strict=True)
        lines.append(f"| {images} | {spread(slow)} | {spread(fast)} | {ratio(slow, fast)} |")
    threads = torch.get_num_threads()
    print(f"\n{options.model_version}, random weights, {IMAGE_TOKEN_COUNT} tokens, {machine()}, {threads} threads\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
