"""The choice of a runner.

Runners are imported once they are chosen: openvino need not be installed to compute with torch, and torch, whose import
would take most of a start, is not needed to compute with openvino and native.
"""

from __future__ import annotations

import ctypes
import logging
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from consts import RUNNERS
from engine.errors import InvalidRequest, first_line
from engine.runners.runner import LogitsRunner, Runner
from engine.runners.sampling import SamplingRunner
from engine.weights.checkpoint import Checkpoint, ModelFiles, find_model
from engine.weights.config import ModelConfig
from engine.weights.models import model_spec
from host.gpus import may_have_gpu
from host.threads import usable_threads

if TYPE_CHECKING:
    from engine.runners.openvino.precision import Precision

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
    chosen_device = choose_device_name(device)
    spec = model_spec(model)
    count = usable_threads(threads)
    find = partial(find_model, model, models_root=models_root, progress=progress)
    chosen_library = choose_library(runner, chosen_device)
    if chosen_library == "cuda":
        import torch

        from engine.runners.cuda.support import choose_cuda_dtype
        from engine.runners.torch_loading import load_cuda

        dtype = choose_cuda_dtype(precision, spec)
        with usable_cache(cache_dir) as folder:
            return load_cuda(find, torch.device(chosen_device), dtype, count, folder, runner, progress=progress)
    if chosen_library == "torch":
        from engine.runners.torch_loading import load_torch

        return load_torch(find, chosen_device, precision, spec, count, progress=progress)

    from engine.runners.native.runner import NativeRunner
    from engine.runners.openvino.precision import choose_precision

    with usable_cache(cache_dir) as folder:
        library = _load_native(folder, runner, chosen_library)
        if chosen_library == "native":  # without OpenVINO
            from engine.runners.torch_loading import load_native, load_torch

            if library is None:
                return load_torch(find, chosen_device, precision, spec, count, progress=progress)
            chosen_precision = choose_precision(precision, spec)
            files = find()
            if not _is_supported(files.config, runner, chosen_library):
                return load_torch(lambda: files, chosen_device, "auto", spec, count)
            return load_native(files, library, chosen_precision, count, progress=progress)

        from engine.runners.native.openvino_ends import OpenVinoEnds, form_for
        from engine.runners.openvino.compiled import compile_model
        from engine.runners.openvino.runner import OpenVinoRunner

        chosen_precision = choose_precision(precision, spec)
        files = find()
        compiled = partial(compile_model, files, chosen_precision, count, folder, progress=progress)
        if library is None or not _is_supported(files.config, runner, chosen_library):
            return _sampling(files, OpenVinoRunner(compiled()))
        return _sampling(files, NativeRunner(OpenVinoEnds(compiled(form=form_for(chosen_precision))), library, count))


def _sampling(files: ModelFiles, runner: LogitsRunner) -> tuple[ModelFiles, Runner]:
    """Return a model with a runner that draws from another one's logits."""
    return files, SamplingRunner(runner, files.config)


def logits_runner_on(
    checkpoint: Checkpoint, precision: Precision, threads: int, cache_dir: Path, *, runner: str = "auto"
) -> LogitsRunner:
    """Create a runner for an x86 CPU from modules in memory; `cache_dir` keeps only the compiled decoder.

    Raises InvalidRequest if `runner` is native and native is not available.
    """
    from engine.runners.native.openvino_ends import OpenVinoEnds, form_for
    from engine.runners.native.runner import NativeRunner
    from engine.runners.openvino.compiled import compile_checkpoint
    from engine.runners.openvino.runner import OpenVinoRunner

    library = _load_native(cache_dir, runner, "openvino")
    if library is None or not _is_supported(checkpoint.config, runner, "openvino"):
        return OpenVinoRunner(compile_checkpoint(checkpoint, precision, threads))
    return NativeRunner(OpenVinoEnds(compile_checkpoint(checkpoint, precision, threads, form_for(precision))), library, threads)


def choose_device_name(device: str) -> str:
    """Choose a device by torch's name for it; `auto` takes a GPU if there is one. Raises InvalidRequest."""
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return "cpu"
    from engine.runners.torch.runner import choose_device

    return str(choose_device(device))


def choose_library(runner: str, device: str) -> str:
    """Choose the library for a device: on an x86 CPU openvino, on another CPU native, on an NVIDIA GPU cuda, else torch.

    With openvino, the native decoder decodes if it can. Where native or cuda can't, torch takes its place. Raises InvalidRequest.
    """
    if runner not in RUNNERS:
        raise InvalidRequest("runner", f"runner {runner!r} is unknown; take {', '.join(RUNNERS)}")
    kind = device.partition(":")[0]
    is_cpu = kind == "cpu"
    is_x86_cpu = is_cpu and platform.machine().lower() in {"x86_64", "amd64"}
    if runner == "openvino" and not is_x86_cpu:
        raise InvalidRequest("runner", f"openvino computes on x86 CPUs only, not on {kind}; take auto, native or torch")
    if runner == "native" and not is_cpu:
        raise InvalidRequest("runner", f"native computes on CPUs only, not on {kind}; take auto, cuda or torch")
    if runner == "torch":
        return "torch"
    if runner == "cuda" or not is_cpu:
        import torch

        from engine.runners.cuda.support import missing_on

        missing = missing_on(torch.device(device))
        if missing is None:
            return "cuda"
        if runner == "cuda":
            raise InvalidRequest("runner", f"cuda can't compute here: {missing}; take auto or torch")
        if kind == "cuda":
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
