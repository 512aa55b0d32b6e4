"""The cost of a faster precision: how far Tiny's next-token distribution and its pixels differ from float32's.

    python -m benchmarks.precision

Images are drawn in float32, with Tiny's default sampling settings. Each precision then decodes the same tokens; the distributions
after guidance are compared at each of the 256 steps, and the pixels at the end. For how well prompts are followed, see
`python -m training.evaluate`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from consts import RUNNERS
from engine.picture import GRID
from engine.request import IMAGE_TOKEN_COUNT
from engine.runners import LogitsRunner, default_cache, logits_runner_on
from engine.runners.openvino.precision import CPU_PRECISIONS
from engine.sampler import guide, sample, uniforms
from engine.text import tokenize_prompt
from engine.weights.checkpoint import Checkpoint, load_checkpoint
from host.threads import usable_threads
from training.evaluate import Trial, trials


@dataclass(frozen=True, eq=False)
class Cost:
    """The cost of a precision."""

    divergences: NDArray[Any]  # KL(float32 || precision) at each step of each image: nats, [256, N]
    psnr: float  # of all images' pixels: dB


def _mixed(count: int) -> list[Trial]:
    """Return prompts from all rows of the evaluation."""
    chosen = list(trials(count, seed=1))
    return chosen[:: len(chosen) // count][:count]


def forced_logits(runner: LogitsRunner, prompts: list[list[int]], tokens: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield each step's logits, [N, 2, V], on forced tokens int64 [N, 256]; the caller may fill them in step by step."""
    runner.admit([runner.encode(prompt) for prompt in prompts])
    for step in range(IMAGE_TOKEN_COUNT):
        yield runner.step(tokens[:, step].tolist(), [step] * len(prompts))
    runner.rearrange([])


def log_probabilities(logits: NDArray[Any], factor: float, temperature: float) -> NDArray[Any]:
    """Return the log-probabilities of the next token after guidance: [N, 2, V] -> float64 [N, V]."""
    scaled = guide(logits, [factor] * len(logits)).astype(np.float64) / temperature
    shifted = scaled - scaled.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def psnr(exact: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio of uint8 pixels in dB; infinite if all are equal."""
    mean_square = float(np.square(exact.astype(np.float64) - other).mean())
    return math.inf if mean_square == 0 else 10 * math.log10(255**2 / mean_square)


def compare(checkpoint: Checkpoint, names: list[str], count: int, threads: int, kind: str = "auto") -> dict[str, Cost]:
    """Draw `count` prompts in float32, and return each precision's cost on the same tokens."""
    settings = checkpoint.config.sampling
    factor, temperature = settings.supercondition_factor, settings.temperature
    prompts = [tokenize_prompt(checkpoint.tokenizer, trial.prompt, checkpoint.config) for trial in _mixed(count)]
    tokens = np.full((len(prompts), IMAGE_TOKEN_COUNT + 1), checkpoint.config.decoder_start_token_id)
    chances = [uniforms(seed) for seed in range(len(prompts))]
    exact = []
    runner = logits_runner_on(checkpoint, CPU_PRECISIONS["float32"], threads, default_cache(), runner=kind)
    for step, logits in enumerate(
        tqdm(forced_logits(runner, prompts, tokens), total=IMAGE_TOKEN_COUNT, desc="float32", unit="step")
    ):
        exact.append(log_probabilities(logits, factor, temperature))
        tokens[:, step + 1], _ = sample(logits, [settings] * len(prompts), [own[step] for own in chances])
    grids = tokens[:, 1:].reshape(-1, GRID, GRID)
    pixels = runner.detokenize(grids)
    costs = {}
    for name in names:
        runner = logits_runner_on(checkpoint, CPU_PRECISIONS[name], threads, default_cache(), runner=kind)
        steps = tqdm(
            zip(exact, forced_logits(runner, prompts, tokens), strict=True), total=IMAGE_TOKEN_COUNT, desc=name, unit="step"
        )
        ours = ((ideal, log_probabilities(logits, factor, temperature)) for ideal, logits in steps)
        divergences = np.stack([(np.exp(ideal) * (ideal - other)).sum(-1) for ideal, other in ours])
        costs[name] = Cost(divergences, psnr(pixels, runner.detokenize(grids)))
    return costs


def main(arguments: list[str] | None = None) -> None:
    """Print a table of each precision's cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--precisions", nargs="+", choices=CPU_PRECISIONS, default=["bfloat16", "int8", "int4"])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--runner", choices=[kind for kind in RUNNERS if kind != "torch"], default="auto")
    options = parser.parse_args(arguments)
    checkpoint = load_checkpoint("tiny", progress=False)
    found = compare(checkpoint, options.precisions, options.prompts, usable_threads(options.threads), options.runner)
    print(f"\nTiny, {options.prompts} prompts, {IMAGE_TOKEN_COUNT} steps each, divergence from float32 in nats\n")
    print("| precision | mean | median | 99 % | most | PSNR of the pixels |\n| --- | --- | --- | --- | --- | --- |")
    for name, cost in found.items():
        values = cost.divergences
        median, high = np.quantile(values, [0.5, 0.99])
        print(f"| {name} | {values.mean():.4f} | {median:.5f} | {high:.3f} | {values.max():.2f} | {cost.psnr:.1f} dB |")


if __name__ == "__main__":
    main()
