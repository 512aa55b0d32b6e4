"""Loading the runners that need torch: torch's own, cuda, and native where OpenVINO can't run.

Apart from `choice.py`, so that a start which needs none of them does not import torch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from ctypes import CDLL
from pathlib import Path

import torch

from engine.errors import InvalidRequest, first_line
from engine.runners.cuda.support import Unproven
from engine.runners.native.runner import NativeRunner
from engine.runners.native.torch_ends import TorchEnds
from engine.runners.openvino.precision import Precision
from engine.runners.runner import LogitsRunner, Runner
from engine.runners.sampling import SamplingRunner
from engine.runners.torch.runner import TorchRunner, choose_dtype
from engine.weights.checkpoint import ModelFiles
from engine.weights.models import ModelSpec

_log = logging.getLogger(__name__)


def load_torch(
    find: Callable[[], ModelFiles], device: str, precision: str, spec: ModelSpec, threads: int, *, progress: bool = False
) -> tuple[ModelFiles, Runner]:
    """Find a model and load the torch runner. Raises InvalidRequest for a precision that is not available, before it finds."""
    chosen = torch.device(device)
    dtype = choose_dtype(precision, chosen, spec)
    files = find()
    torch.set_num_threads(threads)
    return _sampling(files, TorchRunner(files.load(dtype, progress=progress), chosen))


def load_cuda(
    find: Callable[[], ModelFiles],
    device: torch.device,
    dtype: torch.dtype,
    threads: int,
    cache_dir: Path,
    runner: str,
    *,
    progress: bool = False,
) -> tuple[ModelFiles, Runner]:
    """Load the CUDA runner, or the torch runner if that one does not prove itself; an error if `runner` is cuda."""
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache_dir / "triton"))  # of compiled kernels, else in the user's home
    files = find()
    torch.set_num_threads(threads)
    checkpoint = None
    try:
        from engine.runners.cuda.compiling import compiling
        from engine.runners.cuda.loading import proven_runner

        with compiling(files.config, dtype, device, threads):
            checkpoint = files.load(dtype, progress=progress)
        return files, proven_runner(checkpoint, device)
    except (Unproven, ImportError) as error:  # ImportError: a Triton that is installed, but not whole
        reason = first_line(error)
        if runner == "cuda":
            raise InvalidRequest("runner", f"cuda can't draw {files.config.name} here: {reason}; take auto or torch") from error
    # Not inside the except block, where the traceback keeps the other runner's memory.
    _log.warning("drawing with torch, as the faster cuda runner can't draw %s here: %s", files.config.name, reason)
    return _sampling(files, TorchRunner(checkpoint or files.load(dtype, progress=progress), device))


def load_native(
    files: ModelFiles, library: CDLL, precision: Precision, threads: int, *, progress: bool = False
) -> tuple[ModelFiles, Runner]:
    """Load the native runner with torch's ends."""
    torch.set_num_threads(threads)
    checkpoint = files.load(torch.float32, progress=progress)
    ends = TorchEnds(checkpoint, precision.decoder_weights, quantizes_pixels=precision.quantizes_pixels)
    return _sampling(files, NativeRunner(ends, library, threads))


def _sampling(files: ModelFiles, runner: LogitsRunner) -> tuple[ModelFiles, Runner]:
    """Return a model with a runner that draws from another one's logits."""
    return files, SamplingRunner(runner, files.config)
