"""A model compiled for this CPU. Its weights are converted once and kept on disk, so that the next start is quick."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openvino as ov
from numpy.typing import NDArray

from engine.errors import first_line
from engine.progress import tqdm
from engine.runners import quantization
from engine.runners.openvino.array_file import read_arrays, write_arrays
from engine.runners.openvino.detokenizer import CompiledDetokenizer
from engine.runners.openvino.graphs import Layers, decoding_graph, encoding_graph
from engine.runners.openvino.outline import outline
from engine.runners.openvino.precision import Precision
from engine.runners.openvino.weights import Weights
from engine.runners.quantization import WeightKind
from engine.weights.checkpoint import Checkpoint, ModelFiles
from engine.weights.config import ModelConfig
from host.malloc import release_freed_memory
from host.turn import turn
from host.unfinished import sweep_unfinished, unfinished_folder

if TYPE_CHECKING:
    from torch import nn

    from engine.upstream.modules import DalleBartDecoder  # which imports torch

# The files that converted weights depend on: after a change to one of them, a model is converted again.
_SOURCES = (
    *(Path(__file__).with_name(f"{name}.py") for name in ("graphs", "operations", "weights", "detokenizing", "calibration")),
    Path(quantization.__file__),
)
_DETOKENIZER = "detokenizing.xml"  # in OpenVINO's format, as it has only standard operations

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Form:
    """A target of conversion: graphs and, if the decoder or the detokenizer is not one of them, the function that packs it."""

    name: str
    graphs: Mapping[str, Callable[[Layers, Weights], ov.Model]]
    pack_decoder: Callable[[DalleBartDecoder, ModelConfig, WeightKind], list[NDArray[Any]]] | None = None
    pack_detokenizer: Callable[[nn.Module], list[NDArray[Any]]] | None = None
    sources: tuple[Path, ...] = ()  # of what packs, as in `_SOURCES`


PAGED = Form("paged", {"encoding": encoding_graph, "decoding": decoding_graph})


@dataclass(frozen=True)
class Converted:
    """A model's graphs, and the constants that they read in place."""

    graphs: dict[str, ov.Model]
    detokenizing: ov.Model | None  # None if it is packed, among the constants
    constants: dict[str, list[NDArray[Any]]]


@dataclass(frozen=True)
class CompiledModel:
    """A model as runners take it, without torch's modules."""

    config: ModelConfig
    empty_prompt: tuple[int, ...]
    min_rows: int  # with fewer rows than threads, attention is split differently and rounds differently
    parts: Mapping[str, ov.CompiledModel]  # the form's graphs
    detokenizer: CompiledDetokenizer | None  # None if it is packed
    constants: Mapping[str, Sequence[NDArray[Any]]]  # kept alive for the graphs, which read them in place; and what is packed


def compile_model(
    files: ModelFiles,
    precision: Precision,
    threads: int,
    cache_dir: Path | None,
    *,
    form: Form = PAGED,
    progress: bool = False,
) -> CompiledModel:
    """Compile a model. An earlier start's converted weights are read from `cache_dir`; None keeps nothing."""
    folder = None if cache_dir is None else cache_dir / f"{files.config.name}-{precision.name}-{form.name}-{_key(files, form)}"
    converted = None if folder is None else _read(folder, files, precision, form)
    if converted is None:
        # In turn: several starts at once, of replicas for example, would need the memory of several conversions.
        with release_freed_memory(), nullcontext() if cache_dir is None else turn(cache_dir):
            converted = _read_or_convert(folder, files, precision, form, progress=progress)
    return _compile(converted, files, precision, threads)


def _read_or_convert(folder: Path | None, files: ModelFiles, precision: Precision, form: Form, *, progress: bool) -> Converted:
    """Read what another start may have kept meanwhile; else convert the model and keep it."""
    if folder is not None and (kept := _read(folder, files, precision, form)) is not None:
        return kept
    converted = convert(lambda: files.load(None, progress=progress), precision, form, progress=progress)
    if folder is not None and _keep(folder, converted):
        # A large model's weights are then mapped from the file: pages that the system may drop, not copies.
        return _read(folder, files, precision, form) or converted
    return converted


def compile_checkpoint(checkpoint: Checkpoint, precision: Precision, threads: int, form: Form = PAGED) -> CompiledModel:
    """Compile modules in memory; keep nothing on disk."""
    return _compile(convert(lambda: checkpoint, precision, form), checkpoint, precision, threads)


def convert(load: Callable[[], Checkpoint], precision: Precision, form: Form = PAGED, *, progress: bool = False) -> Converted:
    """Build a model's graphs from the modules that `load` returns, and free each as soon as possible."""
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
    if form.pack_detokenizer is not None:
        constants["detokenizing"] = form.pack_detokenizer(detokenizer)
        return Converted(graphs, None, constants)
    from engine.runners.openvino.detokenizing import detokenizing_graph  # late, as it imports torch

    return Converted(graphs, detokenizing_graph(detokenizer, quantizes=precision.quantizes_pixels), constants)


def _weights_of(part: str, precision: Precision) -> WeightKind:
    return precision.encoder_weights if part == "encoding" else precision.decoder_weights


def _compile(converted: Converted, model: ModelFiles | Checkpoint, precision: Precision, threads: int) -> CompiledModel:
    core = ov.Core()
    # At once, because OpenVINO compiles on one thread, and without Python's lock.
    with ThreadPoolExecutor(1) as pool:
        pixels = converted.detokenizing
        compiling = None if pixels is None else pool.submit(CompiledDetokenizer, pixels, threads)
        parts = {
            part: core.compile_model(graph, "CPU", {**precision.decoding, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1})
            for part, graph in converted.graphs.items()
        }
        detokenizer = None if compiling is None else compiling.result()
    empty_prompt = tuple(model.tokenizer.token_from_subword[name] for name in ("<s>", "</s>"))
    return CompiledModel(model.config, empty_prompt, max(precision.min_rows, threads), parts, detokenizer, converted.constants)


def _key(files: ModelFiles, form: Form) -> str:
    """Return a hash of all that converted weights depend on."""
    digest = hashlib.sha256(repr((files.fingerprint(), ov.get_version())).encode())
    for source in (*_SOURCES, *form.sources):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _read(folder: Path, files: ModelFiles, precision: Precision, form: Form) -> Converted | None:
    """Build the graphs on the constants in a folder; None if it is missing or unusable."""
    if not folder.is_dir():
        return None
    try:
        constants = read_arrays(folder)
        layers = outline(files.config)  # building torch's modules would import torch, which takes longer than all of this
        graphs = {
            part: build(layers, Weights(_weights_of(part, precision), constants[part])) for part, build in form.graphs.items()
        }
        is_packed = form.pack_detokenizer is not None
        return Converted(graphs, None if is_packed else ov.Core().read_model(folder / _DETOKENIZER), constants)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:
        reason = first_line(error)
        _log.warning("the converted model in %s can't be used and is converted again: %s", folder, reason)
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _keep(folder: Path, converted: Converted) -> bool:
    """Write a converted model, all or nothing, and remove its older versions. Return False if it can't be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep_unfinished(folder.parent)
        with unfinished_folder(folder.parent) as unfinished:
            write_arrays(unfinished, converted.constants)
            if converted.detokenizing is not None:
                ov.save_model(converted.detokenizing, unfinished / _DETOKENIZER, compress_to_fp16=False)
            unfinished.rename(folder)
    except (OSError, RuntimeError) as error:  # OpenVINO's own writing raises RuntimeError
        if folder.is_dir():  # another start has kept the same model in the meantime
            return True
        reason = first_line(error)
        _log.warning("the converted model can't be kept in %s, so the next start is as slow: %s", folder.parent, reason)
        return False
    prefix = folder.name.rpartition("-")[0]
    for older in folder.parent.glob(f"{prefix}-*"):
        if older != folder and older.name.rpartition("-")[0] == prefix:
            shutil.rmtree(older, ignore_errors=True)
    return True
