"""A model compiled for this CPU, and kept on disk so that the next start is quick."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn
from tqdm import tqdm

from engine.checkpoint import Checkpoint, ModelFiles
from engine.config import ModelConfig
from engine.runners.openvino.graphs import decoding_graph, encoding_graph
from engine.runners.openvino.precision import Precision

# Raised when the graphs change: what was compiled from the older ones is then built again.
_GRAPHS_VERSION = 1
_PARTS = ("encoding", "decoding", "detokenizing")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompiledModel:
    """Hold what the runner needs of a model; nothing of it is torch's."""

    config: ModelConfig
    empty_prompt: tuple[int, ...]
    least_rows: int  # with fewer rows than threads, attention is split in another way and rounds otherwise
    encoding: ov.CompiledModel
    decoding: ov.CompiledModel
    detokenizing: ov.CompiledModel


def compile_model(
    files: ModelFiles, precision: Precision, threads: int, cache_dir: Path | None, *, progress: bool = False
) -> CompiledModel:
    """Compile a model's graphs, or read them back from `cache_dir` where an earlier start has left them; None keeps nothing."""
    core = ov.Core()
    settings = {part: _settings(part, precision, threads) for part in _PARTS}
    folder = None if cache_dir is None else cache_dir / f"{files.config.name}-{precision.name}-{_key(core, files, settings)}"
    parts = None if folder is None else _read(core, folder, settings)
    if parts is None:
        checkpoint = files.load(torch.float32, progress=progress)
        parts = build(core, checkpoint, precision.weights, settings, progress=progress)
        del checkpoint
        if folder is not None:
            _keep(folder, parts)
    return CompiledModel(files.config, empty_prompt(files), max(precision.least_rows, threads), **parts)


def empty_prompt(model: ModelFiles | Checkpoint) -> tuple[int, ...]:
    """Return the unconditional prompt's tokens: start and end."""
    return tuple(model.tokenizer.token_from_subword[name] for name in ("<s>", "</s>"))


def compile_checkpoint(checkpoint: Checkpoint, precision: Precision, threads: int) -> CompiledModel:
    """Compile modules that are in memory, and keep nothing on disk."""
    settings = {part: _settings(part, precision, threads) for part in _PARTS}
    parts = build(ov.Core(), checkpoint, precision.weights, settings)
    return CompiledModel(checkpoint.config, empty_prompt(checkpoint), max(precision.least_rows, threads), **parts)


def build(
    core: ov.Core, checkpoint: Checkpoint, weights: str, settings: dict[str, dict[str, Any]], *, progress: bool = False
) -> dict[str, ov.CompiledModel]:
    """Build and compile the three graphs, one after the other: each takes its weights in memory once more."""
    graphs: dict[str, Callable[[], ov.Model]] = {
        "encoding": lambda: encoding_graph(checkpoint, weights),
        "decoding": lambda: decoding_graph(checkpoint, weights),
        "detokenizing": lambda: _detokenizing_graph(checkpoint.detokenizer),
    }
    bar = tqdm(graphs.items(), desc="compiling", unit="graph", disable=None if progress else True)
    return {part: core.compile_model(graph(), "CPU", settings[part]) for part, graph in bar}


def _settings(part: str, precision: Precision, threads: int) -> dict[str, Any]:
    own = precision.detokenizing if part == "detokenizing" else precision.decoding
    return {**own, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}


class _Pixels(nn.Module):
    """Turn a token grid int64 [1, H, W] into pixels uint8 [1, 16 H, 16 W, 3]."""

    def __init__(self, detokenizer: nn.Module) -> None:
        super().__init__()
        self.parts = detokenizer

    def forward(self, grid: Tensor) -> Tensor:
        z = self.parts.embedding(grid).permute(0, 3, 1, 2)  # type: ignore[operator]
        z = self.parts.decoder(self.parts.post_quant_conv(z))  # type: ignore[operator]
        return (z.permute(0, 2, 3, 1).clip(0, 1) * 255).round().to(torch.uint8)


def _detokenizing_graph(detokenizer: nn.Module) -> ov.Model:
    example = torch.zeros((1, 16, 16), dtype=torch.int64)
    with torch.inference_mode():
        return ov.convert_model(_Pixels(detokenizer).eval(), example_input=example, input=[ov.PartialShape([1, -1, -1])])


def _key(core: ov.Core, files: ModelFiles, settings: dict[str, dict[str, Any]]) -> str:
    """Name what the compiled graphs depend on: weights, precision, this library's version, the CPU."""
    cpu = core.get_property("CPU", "FULL_DEVICE_NAME"), sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    parts = (files.fingerprint(), settings, ov.get_version(), cpu, _GRAPHS_VERSION)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _read(core: ov.Core, folder: Path, settings: dict[str, dict[str, Any]]) -> dict[str, ov.CompiledModel] | None:
    """Read compiled graphs back, their weights mapped into memory; None where there are none or they can't be used."""
    if not folder.is_dir():
        return None
    try:
        return {
            part: core.import_model(ov.Tensor(np.memmap(folder / part, mode="r"), shared_memory=True), "CPU", settings[part])
            for part in _PARTS
        }
    except (OSError, RuntimeError, ValueError) as error:
        _log.warning("the compiled model in %s can't be used and is built again: %s", folder, str(error).splitlines()[0])
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _keep(folder: Path, parts: dict[str, ov.CompiledModel]) -> None:
    """Write compiled graphs, all or none, and drop those of older weights or versions; a full disk is no error."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
        try:
            for name, compiled in parts.items():
                (unfinished / name).write_bytes(compiled.export_model())
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        _log.warning("the compiled model can't be kept in %s, so the next start is as slow: %s", folder.parent, error)
        return
    prefix = folder.name.rpartition("-")[0]
    for older in folder.parent.glob(f"{prefix}-*"):
        if older != folder and older.name.rpartition("-")[0] == prefix:
            shutil.rmtree(older, ignore_errors=True)
