"""The one place where a runner is chosen."""

from __future__ import annotations

import ctypes
import logging
import platform
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from platformdirs import user_cache_path

from consts import RUNNERS
from engine.errors import InvalidRequest
from engine.runners.runner import Runner
from engine.runners.torch.runner import TorchRunner, choose_device, choose_dtype
from engine.weights.checkpoint import Checkpoint, ModelFiles, find_model
from engine.weights.config import ModelConfig
from engine.weights.models import model_spec
from host.threads import usable_threads

if TYPE_CHECKING:
    from engine.runners.openvino.precision import Precision

# The other runners are imported where they are chosen: where torch computes, openvino need not be installed.

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
    """Find a model, choose what computes it, and load it there.

    `threads` 0 takes as many as this process may use; `cache_dir` is where compiled models are kept, by default in the user's
    cache folder. Raises InvalidRequest where a device, runner or precision is not available, before anything is downloaded;
    CheckpointError as `find_model`.
    """
    chosen = choose_device(device)
    spec = model_spec(model)
    count = usable_threads(threads)
    find = partial(find_model, model, models_root=models_root, progress=progress)
    if choose_library(runner, chosen) == "torch":
        dtype = choose_dtype(precision, chosen, spec)
        files = find()
        torch.set_num_threads(count)
        return files, TorchRunner(files.load(dtype, progress=progress), chosen)

    from engine.runners.native.runner import NATIVE, NativeRunner
    from engine.runners.openvino.compiled import compile_model
    from engine.runners.openvino.precision import choose_precision
    from engine.runners.openvino.runner import OpenVinoRunner

    numbers = choose_precision(precision, spec)
    folder = cache_dir or default_cache()
    decoder = _load_decoder(folder, runner)
    files = find()
    if decoder is None or not _fits(files.config, runner):
        return files, OpenVinoRunner(compile_model(files, numbers, count, folder, progress=progress))
    return files, NativeRunner(compile_model(files, numbers, count, folder, form=NATIVE, progress=progress), decoder, count)


def runner_on(checkpoint: Checkpoint, precision: Precision, threads: int, cache_dir: Path, *, runner: str = "auto") -> Runner:
    """Make a runner for an x86 CPU of modules in memory; only the compiled decoder is kept in `cache_dir`.

    Raises InvalidRequest where native is asked for and is not available.
    """
    from engine.runners.native.runner import NATIVE, NativeRunner
    from engine.runners.openvino.compiled import compile_checkpoint
    from engine.runners.openvino.runner import OpenVinoRunner

    decoder = _load_decoder(cache_dir, runner)
    if decoder is None or not _fits(checkpoint.config, runner):
        return OpenVinoRunner(compile_checkpoint(checkpoint, precision, threads))
    return NativeRunner(compile_checkpoint(checkpoint, precision, threads, NATIVE), decoder, threads)


def choose_library(runner: str, device: torch.device) -> str:
    """Choose the library that computes on a device, torch or openvino: `auto` takes openvino on an x86 CPU, else torch.

    With openvino, the native decoder decodes where it can. Raises InvalidRequest.
    """
    if runner not in RUNNERS:
        raise InvalidRequest("runner", f"runner {runner!r} is unknown; take {', '.join(RUNNERS)}")
    fits = device.type == "cpu" and platform.machine().lower() in {"x86_64", "amd64"}
    if runner in ("native", "openvino") and not fits:
        raise InvalidRequest("runner", f"{runner} computes on x86 CPUs only, not on {device.type}; take auto or torch")
    return "openvino" if fits and runner != "torch" else "torch"


def default_cache() -> Path:
    """Return the folder in which compiled models are kept: in the user's cache folder, where the system has it."""
    return user_cache_path("dalle-server", appauthor=False)


def _load_decoder(cache_dir: Path, runner: str) -> ctypes.CDLL | None:
    """Load the native decoder; None where OpenVINO is asked for, or has to decode."""
    from engine.runners.native.library import NotToBeHad, load_library

    if runner == "openvino":
        return None
    try:
        return load_library(cache_dir)
    except NotToBeHad as error:
        _do_without(str(error), runner)
        return None


def _fits(config: ModelConfig, runner: str) -> bool:
    """Return whether the native decoder can run a model of these sizes."""
    from engine.runners.native.layout import why_unfit

    unfit = why_unfit(config)
    if unfit:
        _do_without(unfit, runner)
    return not unfit


def _do_without(why: str, runner: str) -> None:
    """Log why OpenVINO has to decode; raise InvalidRequest where native was asked for."""
    if runner == "native":
        raise InvalidRequest("runner", f"native can't run here: {why}; take auto, openvino or torch")
    _log.info("decoding with OpenVINO, as the faster native decoder can't run here: %s", why)
