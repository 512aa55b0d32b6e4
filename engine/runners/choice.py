"""The choice of a runner."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from platformdirs import user_cache_path

from consts import RUNNERS
from engine.errors import InvalidRequest, first_line
from engine.runners.cuda.support import Unproven, choose_cuda_dtype, missing_on
from engine.runners.runner import LogitsRunner, Runner
from engine.runners.sampling import SamplingRunner
from engine.runners.torch.runner import TorchRunner, choose_device, choose_dtype
from engine.weights.checkpoint import Checkpoint, ModelFiles, find_model
from engine.weights.config import ModelConfig
from engine.weights.models import model_spec
from host.threads import usable_threads

if TYPE_CHECKING:
    from engine.runners.openvino.precision import Precision

# Other runners are imported once they are chosen: openvino need not be installed to compute with torch.

_log = logging.getLogger(__name__)


def load_runner(
    model: str,
    *,
    models_root: Path | None = None,
    device: str = "auto",
    runner: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    cache_dir: Path | None = None,
    progress: bool = False,
) -> tuple[ModelFiles, Runner]:
    """Find a model, choose a runner for it, and load it.

    Raises InvalidRequest if the device, runner or precision is not available, before it downloads anything; CheckpointError as
    `find_model` does.

    Args:
        threads: The number of threads to compute with; 0 takes as many as this process may use.
        cache_dir: The folder for compiled models, by default in the user's cache folder.
    """
    chosen_device = choose_device(device)
    spec = model_spec(model)
    count = usable_threads(threads)
    find = partial(find_model, model, models_root=models_root, progress=progress)
    chosen_library = choose_library(runner, chosen_device)
    if chosen_library == "cuda":
        dtype = choose_cuda_dtype(precision, spec)
        with usable_cache(cache_dir) as folder:
            return _load_cuda(find, chosen_device, dtype, count, folder, runner, progress=progress)
    if chosen_library == "torch":
        return _load_torch(find, chosen_device, choose_dtype(precision, chosen_device, spec), count, progress=progress)

    from engine.runners.native.runner import NativeRunner
    from engine.runners.openvino.precision import choose_precision

    with usable_cache(cache_dir) as folder:
        library = _load_native(folder, runner, chosen_library)
        if chosen_library == "native":  # without OpenVINO
            if library is None:
                return _load_torch(find, chosen_device, choose_dtype(precision, chosen_device, spec), count, progress=progress)
            from engine.runners.native.torch_ends import TorchEnds

            chosen_precision = choose_precision(precision, spec)
            files = find()
            if not _is_supported(files.config, runner, chosen_library):
                return _load_torch(lambda: files, chosen_device, choose_dtype("auto", chosen_device, spec), count)
            torch.set_num_threads(count)
            checkpoint = files.load(torch.float32, progress=progress)
            kind, quantizes_pixels = chosen_precision.decoder_weights, chosen_precision.quantizes_pixels
            ends = TorchEnds(checkpoint, kind, quantizes_pixels=quantizes_pixels)
            return _sampling(files, NativeRunner(ends, library, count))

        from engine.runners.native.openvino_ends import NATIVE, OpenVinoEnds
        from engine.runners.openvino.compiled import compile_model
        from engine.runners.openvino.runner import OpenVinoRunner

        chosen_precision = choose_precision(precision, spec)
        files = find()
        compiled = partial(compile_model, files, chosen_precision, count, folder, progress=progress)
        if library is None or not _is_supported(files.config, runner, chosen_library):
            return _sampling(files, OpenVinoRunner(compiled()))
        return _sampling(files, NativeRunner(OpenVinoEnds(compiled(form=NATIVE)), library, count))


def _load_torch(
    find: Callable[[], ModelFiles], device: torch.device, dtype: torch.dtype, threads: int, *, progress: bool = False
) -> tuple[ModelFiles, Runner]:
    files = find()
    torch.set_num_threads(threads)
    return _sampling(files, TorchRunner(files.load(dtype, progress=progress), device))


def _load_cuda(
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


def _sampling(files: ModelFiles, runner: LogitsRunner) -> tuple[ModelFiles, Runner]:
    """Return a model with a runner that draws from another one's logits."""
    return files, SamplingRunner(runner, files.config)


def logits_runner_on(
    checkpoint: Checkpoint, precision: Precision, threads: int, cache_dir: Path, *, runner: str = "auto"
) -> LogitsRunner:
    """Create a runner for an x86 CPU from modules in memory; `cache_dir` keeps only the compiled decoder.

    Raises InvalidRequest if `runner` is native and native is not available.
    """
    from engine.runners.native.openvino_ends import NATIVE, OpenVinoEnds
    from engine.runners.native.runner import NativeRunner
    from engine.runners.openvino.compiled import compile_checkpoint
    from engine.runners.openvino.runner import OpenVinoRunner

    library = _load_native(cache_dir, runner, "openvino")
    if library is None or not _is_supported(checkpoint.config, runner, "openvino"):
        return OpenVinoRunner(compile_checkpoint(checkpoint, precision, threads))
    return NativeRunner(OpenVinoEnds(compile_checkpoint(checkpoint, precision, threads, NATIVE)), library, threads)


def choose_library(runner: str, device: torch.device) -> str:
    """Choose the library for a device: on an x86 CPU openvino, on another CPU native, on an NVIDIA GPU cuda, else torch.

    With openvino, the native decoder decodes if it can. Where native or cuda can't, torch takes its place. Raises InvalidRequest.
    """
    if runner not in RUNNERS:
        raise InvalidRequest("runner", f"runner {runner!r} is unknown; take {', '.join(RUNNERS)}")
    is_cpu = device.type == "cpu"
    is_x86_cpu = is_cpu and platform.machine().lower() in {"x86_64", "amd64"}
    if runner == "openvino" and not is_x86_cpu:
        raise InvalidRequest("runner", f"openvino computes on x86 CPUs only, not on {device.type}; take auto, native or torch")
    if runner == "native" and not is_cpu:
        raise InvalidRequest("runner", f"native computes on CPUs only, not on {device.type}; take auto, cuda or torch")
    if runner == "torch":
        return "torch"
    if runner == "cuda" or not is_cpu:
        missing = missing_on(device)
        if missing is None:
            return "cuda"
        if runner == "cuda":
            raise InvalidRequest("runner", f"cuda can't compute here: {missing}; take auto or torch")
        if device.type == "cuda":
            _log.info("computing with torch, as the faster cuda runner can't run here: %s", missing)
        return "torch"
    return "openvino" if is_x86_cpu else "native"


def default_cache() -> Path:
    """Return the default folder for compiled models, in the user's cache folder. Raises RuntimeError if there is no home."""
    return user_cache_path("dalle-server", appauthor=False)


@contextmanager
def usable_cache(cache_dir: Path | None) -> Iterator[Path]:
    """Yield the folder for compiled models, created if it is missing.

    If it cannot be created or written, log a warning and yield a private folder, removed at the end of the block: the native
    decoder must be compiled to a file, which stays loaded.
    """
    try:
        folder = cache_dir or default_cache()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:
        _log.warning(
            "the cache folder cannot be used (%s), so the next start is as slow: choose another with --cache_dir",
            first_line(error),
        )
        with tempfile.TemporaryDirectory(prefix="dalle-server-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)
        return
    yield folder


def _load_native(cache_dir: Path, runner: str, otherwise: str) -> ctypes.CDLL | None:
    """Load the library of the native decoder; None if another one has to decode."""
    from engine.runners.native.library import NativeUnavailable, load_library

    if runner == "openvino":
        return None
    try:
        return load_library(cache_dir)
    except NativeUnavailable as error:
        _log_fallback(str(error), runner, otherwise)
        return None


def _is_supported(config: ModelConfig, runner: str, otherwise: str) -> bool:
    """Return whether the native decoder supports a model's sizes."""
    from engine.runners.native.layout import unsupported_reason

    reason = unsupported_reason(config)
    if reason:
        _log_fallback(reason, runner, otherwise)
    return not reason


def _log_fallback(reason: str, runner: str, otherwise: str) -> None:
    """Log why another library has to decode. Raises InvalidRequest if `runner` is native."""
    if runner == "native":
        others = "auto, openvino or torch" if otherwise == "openvino" else "auto or torch"
        raise InvalidRequest("runner", f"native can't run here: {reason}; take {others}")
    title = "OpenVINO" if otherwise == "openvino" else "torch"
    _log.info("decoding with %s, as the faster native decoder can't run here: %s", title, reason)
