"""The runners for x86 CPUs: OpenVINO, and beside it the native decoder where this machine can compile and run it."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from pathlib import Path

from engine.checkpoint import Checkpoint, ModelFiles
from engine.config import ModelConfig, ModelSpec
from engine.errors import InvalidRequest
from engine.runners import Runner
from engine.runners.native.layout import why_unfit
from engine.runners.native.library import NotToBeHad, load_library
from engine.runners.native.runner import NATIVE, NativeRunner
from engine.runners.openvino.compiled import compile_checkpoint, compile_model
from engine.runners.openvino.precision import Precision, choose_precision
from engine.runners.openvino.runner import OpenVinoRunner

_log = logging.getLogger(__name__)


def load_on_cpu(
    spec: ModelSpec,
    find: Callable[[], ModelFiles],
    precision: str,
    threads: int,
    cache_dir: Path,
    *,
    runner: str = "auto",
    progress: bool = False,
) -> tuple[ModelFiles, Runner]:
    """Find a model's files and load them; `runner` auto takes the native decoder where it is to be had.

    Raises InvalidRequest where native is asked for and is not, or for the precision: before `find`, which may download.
    """
    chosen = choose_precision(precision, spec)
    library = _native_library(cache_dir, runner)
    files = find()
    if library is None or not _fits(files.config, runner):
        return files, OpenVinoRunner(compile_model(files, chosen, threads, cache_dir, progress=progress))
    model = compile_model(files, chosen, threads, cache_dir, form=NATIVE, progress=progress)
    return files, NativeRunner(model, library, threads)


def runner_on(checkpoint: Checkpoint, precision: Precision, threads: int, cache_dir: Path, *, runner: str = "auto") -> Runner:
    """Make a runner of modules that are in memory; nothing but the native decoder is kept in `cache_dir`.

    Raises InvalidRequest where native is asked for and is not to be had.
    """
    library = _native_library(cache_dir, runner)
    if library is None or not _fits(checkpoint.config, runner):
        return OpenVinoRunner(compile_checkpoint(checkpoint, precision, threads))
    return NativeRunner(compile_checkpoint(checkpoint, precision, threads, NATIVE), library, threads)


def _native_library(cache_dir: Path, runner: str) -> ctypes.CDLL | None:
    """Load the native decoder; None where OpenVINO is asked for, or has to do."""
    if runner == "openvino":
        return None
    try:
        return load_library(cache_dir)
    except NotToBeHad as error:
        _do_without(str(error), runner)
        return None


def _fits(config: ModelConfig, runner: str) -> bool:
    """Tell whether the native decoder can run a model of these sizes."""
    unfit = why_unfit(config)
    if unfit:
        _do_without(unfit, runner)
    return not unfit


def _do_without(why: str, runner: str) -> None:
    """Log why OpenVINO has to decode; raise InvalidRequest where native was asked for."""
    if runner == "native":
        raise InvalidRequest("runner", f"native can't run here: {why}; take auto, openvino or torch")
    _log.info("decoding with OpenVINO, as the faster native decoder can't run here: %s", why)
