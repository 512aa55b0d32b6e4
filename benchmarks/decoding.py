"""Decode steps compared with the limit of memory: the bytes that a step must read, over the measured bandwidth."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.bandwidth import memory_bandwidth
from benchmarks.figures import Figure, Figures
from benchmarks.plan import PROMPT, Plan
from engine.request import IMAGE_TOKEN_COUNT, SamplingSettings
from engine.runners import LogitsRunner, default_cache, logits_runner_on
from engine.runners.native.runner import NativeRunner
from engine.runners.openvino.precision import Precision
from engine.runners.quantization import INT4_GROUP, WeightKind
from engine.runners.runner import Draw
from engine.sampler import uniforms
from engine.text import tokenize_prompt
from engine.weights.checkpoint import Checkpoint

_CACHED_BYTES = {"f32": 4, "bf16": 2, "u8": 1}
_SCALE_BYTES = 4  # the scale of a head's rounded key or value; OpenVINO also has a zero point


def bytes_a_step(checkpoint: Checkpoint, precision: Precision, images: int, text_tokens: int, *, is_native: bool) -> int:
    """Return the bytes that a step at the mean position must read: weights, keys and values.

    The text's keys and values count once, as all images share them.
    """
    config = checkpoint.config
    heads = config.attention_head_count
    if is_native:
        size = {"float32": 4, "bfloat16": 2}.get(precision.decoder_weights, 1)
        token = config.embed_count * size + (heads * _SCALE_BYTES if size == 1 else 0)
    else:
        cache_type = precision.decoding["KV_CACHE_PRECISION"]
        token = config.embed_count * _CACHED_BYTES[cache_type] + (heads * 2 * _SCALE_BYTES if cache_type == "u8" else 0)
    mean_length = (IMAGE_TOKEN_COUNT + 1) / 2  # with the step's own token
    cached = 2 * images * mean_length + 2 + text_tokens  # 2: the unconditional prompt
    return int(_weight_bytes(checkpoint, precision.decoder_weights) + config.decoder_layer_count * 2 * cached * token)


def _weight_bytes(checkpoint: Checkpoint, kind: WeightKind) -> int:
    """Return the bytes of all weights that a step multiplies by; the text's keys and values are computed when it is encoded."""
    weights = {
        name: module.weight
        for name, module in checkpoint.decoder.layers.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj"))
    }
    weights["lm_head"] = checkpoint.decoder.lm_head.weight[: checkpoint.config.logit_count]
    others: WeightKind = "int8" if kind == "int4" else kind
    return sum(_matrix_bytes(weight, kind if ".glu." in name else others) for name, weight in weights.items())


def _matrix_bytes(weight: Tensor, kind: WeightKind) -> int:
    rows, columns = weight.shape
    if kind == "int4":
        return rows * -(-columns // INT4_GROUP) * (INT4_GROUP // 2 + 1 + 4)  # each group has a zero point and a scale
    if kind == "int8":
        return rows * (columns + 4)  # each output channel has a scale
    are_halves = kind == "bfloat16" or torch.equal(weight.half().float(), weight)
    return rows * columns * (2 if are_halves else 4)


class Decoding:
    """A drawing of several images, step by step, without the engine."""

    def __init__(self, checkpoint: Checkpoint, runner: LogitsRunner, images: int) -> None:
        config = checkpoint.config
        self._runner, self._images = runner, images
        self._draws = [Draw(SamplingSettings(), uniforms(seed)) for seed in range(images)]
        self._tokens = [config.decoder_start_token_id] * images
        self.text_tokens = tokenize_prompt(checkpoint.tokenizer, PROMPT, config)

    def steps(self) -> Iterator[float]:
        """Yield each step's seconds, until its tokens are drawn."""
        runner = self._runner
        runner.admit([runner.encode(self.text_tokens)] * self._images)
        for position in range(IMAGE_TOKEN_COUNT):
            started = time.perf_counter()
            drawn = runner.draw(self._tokens, [position] * self._images, self._draws, steps=1)
            yield time.perf_counter() - started
            self._tokens = drawn.tokens[:, 0].tolist()
        runner.rearrange([])


def measure_decoding(checkpoint: Checkpoint, plan: Plan, figures: Figures) -> None:
    """Measure the steps of whole images, for each precision and number of images in turn, and the bandwidth in each round."""
    runners = {
        name: (precision, logits_runner_on(checkpoint, precision, plan.threads, default_cache()))
        for name, precision in plan.chosen.items()
    }
    for _, runner in runners.values():  # warm up
        for images in plan.images:
            list(Decoding(checkpoint, runner, images).steps())
    for _ in tqdm(range(plan.rounds), desc="decoding", unit="round"):
        decoders = (runner.decoder for _, runner in runners.values() if isinstance(runner, NativeRunner))
        ways = memory_bandwidth(plan.threads, next(decoders, None))
        for way, speed in ways.items():
            figures.add(Figure("decoding", f"memory read by {way}", "GB/s", "more"), speed / 1e9)
        bandwidth = max(ways.values())
        for name, (precision, runner) in runners.items():
            for images in plan.images:
                decoding = Decoding(checkpoint, runner, images)
                step = float(np.median(list(decoding.steps())))
                is_native = isinstance(runner, NativeRunner)
                limit = bytes_a_step(checkpoint, precision, images, len(decoding.text_tokens), is_native=is_native) / bandwidth
                title = f"decode step of {images}, {name}"
                figures.add(Figure("decoding", title, "ms", "share", "memory's limit"), step * 1000, limit * 1000)
