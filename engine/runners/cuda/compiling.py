"""Compiling a model's kernels while its weights are read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread

import torch

from engine.runners.cuda.decoder import CudaDecoder
from engine.runners.cuda.launching import Compilation
from engine.runners.cuda.runner import BATCHES, FIRST_SLOTS
from engine.runners.cuda.slots import Slots
from engine.runners.cuda.weights import DecoderWeights
from engine.weights.config import ModelConfig
from engine.weights.skeleton import build_decoder, without_weights

_META = torch.device("meta")

_FAILED = "kernels could not be compiled before they are needed"

_log = logging.getLogger(__name__)


def step_kernels(config: ModelConfig, dtype: torch.dtype) -> Compilation:
    """Return the kernels of a model's steps, for batches of all sizes, but for products, which seldom are Triton's."""
    with without_weights():
        decoder = build_decoder(replace(config, decoder_layer_count=2)).to(dtype)  # all layers are alike, but for the last norm
    weights = DecoderWeights(decoder, replace(config, decoder_layer_count=2), _META)
    compilation = Compilation()
    step = CudaDecoder(weights, lambda weight, dtype: lambda x, y: None, compilation.launch)
    for batch in BATCHES:
        step.attach(Slots(weights.config, FIRST_SLOTS, _META, dtype), batch)
        step.step(batch)
    return compilation


@contextmanager
def compiling(config: ModelConfig, dtype: torch.dtype, device: torch.device, threads: int) -> Iterator[None]:
    """Compile the kernels of a model's steps beside the block, and wait for them at its end.

    What fails is only logged: it fails again where the kernel is needed, and is reported there.
    """

    kernels = Compilation()

    def work() -> None:
        try:
            kernels.run(device, threads)
        except Exception:
            _log.debug(_FAILED, exc_info=True)

    try:
        kernels = step_kernels(config, dtype)
    except Exception:
        _log.debug(_FAILED, exc_info=True)
    thread = Thread(target=work, name="compile", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
