"""A model compiled for this CPU, its weights converted once and kept on disk so that the next start is quick."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import openvino as ov
from numpy.typing import NDArray

from engine.errors import first_line
from engine.progress import tqdm
from engine.runners import rounding
from engine.runners.openvino import calibration, detokenizing, graphs, operations, weights
from engine.runners.openvino.detokenizing import detokenizing_graph
from engine.runners.openvino.graphs import decoding_graph, encoding_graph
from engine.runners.openvino.kept import read_arrays, write_arrays
from engine.runners.openvino.pixels import Pixels
from engine.runners.openvino.precision import Precision
from engine.runners.openvino.weights import Weights
from engine.runners.rounding import WeightKind
from engine.upstream import DalleBartDecoder
from engine.weights.checkpoint import Checkpoint, ModelFiles
from engine.weights.config import ModelConfig
from host.malloc import release_freed_memory
from host.unfinished import sweep_unfinished, unfinished_folder

# What is kept depends on how these make it: where one has changed, it is made again.
_MAKERS = (graphs, operations, weights, detokenizing, calibration, rounding)
_DETOKENIZER = "detokenizing.xml"  # of operations that OpenVINO reads back from its own format

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Form:
    """Say what a model is converted to: which graphs, and, where its decoder is no graph, how that is packed."""

    name: str
    graphs: Mapping[str, Callable[[Checkpoint, Weights], ov.Model]]
    pack_decoder: Callable[[DalleBartDecoder, ModelConfig, WeightKind], list[NDArray[Any]]] | None = None
    makers: tuple[ModuleType, ...] = ()  # the modules that pack


PAGED = Form("paged", {"encoding": encoding_graph, "decoding": decoding_graph})


@dataclass(frozen=True)
class Converted:
    """Hold a model's graphs, and the constants that they read where they are."""

    graphs: dict[str, ov.Model]
    detokenizing: ov.Model
    constants: dict[str, list[NDArray[Any]]]


@dataclass(frozen=True)
class CompiledModel:
    """Hold what the runner needs of a model; nothing of it is torch's."""

    config: ModelConfig
    empty_prompt: tuple[int, ...]
    least_rows: int  # with fewer rows than threads, attention is split in another way and rounds otherwise
    parts: Mapping[str, ov.CompiledModel]  # the form's graphs
    pixels: Pixels
    constants: Mapping[str, Sequence[NDArray[Any]]]  # held, because the graphs read them where they are; a packed decoder


def compile_model(
    files: ModelFiles,
    precision: Precision,
    threads: int,
    cache_dir: Path | None,
    *,
    form: Form = PAGED,
    progress: bool = False,
) -> CompiledModel:
    """Compile a model, whose converted weights are read from `cache_dir` where an earlier start left them; None keeps nothing."""
    folder = None if cache_dir is None else cache_dir / f"{files.config.name}-{precision.name}-{form.name}-{_key(files, form)}"
    converted = None if folder is None else _read(folder, files, precision, form)
    if converted is None:
        with release_freed_memory():
            converted = convert(lambda: files.load(None, progress=progress), precision, form, progress=progress)
            if folder is not None and _keep(folder, converted):
                # Read back: then they are the file's pages in memory, which the system may drop, and no copies.
                converted = _read(folder, files, precision, form) or converted
    return _compile(converted, files, precision, threads)


def compile_checkpoint(checkpoint: Checkpoint, precision: Precision, threads: int, form: Form = PAGED) -> CompiledModel:
    """Compile modules that are in memory, and keep nothing on disk."""
    return _compile(convert(lambda: checkpoint, precision, form), checkpoint, precision, threads)


def convert(load: Callable[[], Checkpoint], precision: Precision, form: Form = PAGED, *, progress: bool = False) -> Converted:
    """Build a model's graphs from its modules, which `load` gives: none is held longer than it is needed."""
    checkpoint = load()
    graphs, constants = {}, {}
    for part, build in tqdm(form.graphs.items(), desc="converting", unit="graph", disable=None if progress else True):
        weights = Weights(_weights_of(part, precision))
        graphs[part], constants[part] = build(checkpoint, weights), weights.constants
    config, decoder, detokenizer = checkpoint.config, checkpoint.decoder, checkpoint.detokenizer
    del checkpoint
    if form.pack_decoder is not None:
        constants["decoding"] = form.pack_decoder(decoder, config, precision.decoder_weights)
    del decoder
    return Converted(graphs, detokenizing_graph(detokenizer, rounds=precision.rounds_pixels), constants)


def _weights_of(part: str, precision: Precision) -> WeightKind:
    return precision.encoder_weights if part == "encoding" else precision.decoder_weights


def _compile(converted: Converted, model: ModelFiles | Checkpoint, precision: Precision, threads: int) -> CompiledModel:
    core = ov.Core()
    parts = {
        part: core.compile_model(graph, "CPU", {**precision.decoding, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1})
        for part, graph in converted.graphs.items()
    }
    pixels = Pixels(converted.detokenizing, threads)
    empty_prompt = tuple(model.tokenizer.token_from_subword[name] for name in ("<s>", "</s>"))
    return CompiledModel(model.config, empty_prompt, max(precision.least_rows, threads), parts, pixels, converted.constants)


def _key(files: ModelFiles, form: Form) -> str:
    """Name what the converted weights depend on."""
    digest = hashlib.sha256(repr((files.fingerprint(), ov.get_version())).encode())
    for maker in (*_MAKERS, *form.makers):
        digest.update(Path(str(maker.__file__)).read_bytes())
    return digest.hexdigest()[:16]


def _read(folder: Path, files: ModelFiles, precision: Precision, form: Form) -> Converted | None:
    """Build the graphs on the constants that were kept; None where there are none or they can't be used."""
    if not folder.is_dir():
        return None
    try:
        constants = read_arrays(folder)
        skeleton = files.skeleton()
        graphs = {
            part: build(skeleton, Weights(_weights_of(part, precision), constants[part])) for part, build in form.graphs.items()
        }
        return Converted(graphs, ov.Core().read_model(folder / _DETOKENIZER), constants)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:
        reason = first_line(error)
        _log.warning("the converted model in %s can't be used and is made again: %s", folder, reason)
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _keep(folder: Path, converted: Converted) -> bool:
    """Write a converted model, all or nothing, and drop those of older weights or versions; a full disk is no error."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep_unfinished(folder.parent)
        with unfinished_folder(folder.parent) as unfinished:
            write_arrays(unfinished, converted.constants)
            ov.save_model(converted.detokenizing, unfinished / _DETOKENIZER, compress_to_fp16=False)
            unfinished.rename(folder)
    except (OSError, RuntimeError) as error:  # OpenVINO's own writing raises RuntimeError
        if folder.is_dir():  # another start has kept the same meanwhile
            return True
        reason = first_line(error)
        _log.warning("the converted model can't be kept in %s, so the next start is as slow: %s", folder.parent, reason)
        return False
    prefix = folder.name.rpartition("-")[0]
    for older in folder.parent.glob(f"{prefix}-*"):
        if older != folder and older.name.rpartition("-")[0] == prefix:
            shutil.rmtree(older, ignore_errors=True)
    return True
