"""A model's weights: found, checked and loaded.

find_model(name)
    model_spec                      the model table
    source.find, for each file      a path: in the repository's own folder, in --models_root, or in the hub's cache
    read_config                     the sizes
load
    read_tensors, fill_module       each file into a module that was built without memory of its own
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from engine.errors import CheckpointError
from engine.progress import tqdm
from engine.upstream import DalleBartDecoder, DalleBartEncoder, TextTokenizer
from engine.weights.config import ModelConfig, read_config
from engine.weights.detokenizer import build_detokenizer
from engine.weights.hub import HubSource
from engine.weights.models import ModelSpec, WeightFile, model_spec
from engine.weights.skeleton import build_decoder, build_encoder, without_weights
from engine.weights.sources import FolderSource, Source, is_there
from engine.weights.tensor_file import fill_module, read_tensors

BUILT_IN_MODELS = Path(__file__).resolve().parents[2] / "models"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Hold one model's modules, on the CPU and ready to run, and its tokenizer and sizes."""

    config: ModelConfig
    tokenizer: TextTokenizer
    encoder: DalleBartEncoder
    decoder: DalleBartDecoder
    detokenizer: nn.Module  # always float32, as in min-dalle


@dataclass(frozen=True)
class ModelFiles:
    """Hold a model whose files are there, its small ones read: sizes and tokenizer. Its weights are read by `load`."""

    config: ModelConfig
    tokenizer: TextTokenizer
    spec: ModelSpec
    source: Source

    def load(self, dtype: torch.dtype | None, *, progress: bool = True) -> Checkpoint:
        """Read the weights; raise CheckpointError.

        The encoder's and decoder's become `dtype`. None leaves them as they are stored: who converts them one by one needs no
        room for all of them in float32.
        """
        spec = self.spec
        empty = self.skeleton()
        encoder, decoder, detokenizer = empty.encoder, empty.decoder, empty.detokenizer
        parts: list[tuple[WeightFile, nn.Module, torch.dtype | None]] = [
            (spec.encoder, encoder, dtype),
            (spec.decoder, decoder, dtype),
            (spec.detokenizer, detokenizer, torch.float32),
        ]
        with tqdm(parts, desc=f"loading {self.config.name}", unit="file", disable=None if progress else True) as bar:
            for file, module, part_dtype in bar:
                with _refusing(self.source, file) as path:
                    fill_module(module, read_tensors(path), part_dtype, path)
                module.eval().requires_grad_(False)
        return empty

    def skeleton(self) -> Checkpoint:
        """Build the modules without memory for their weights, on torch's meta device."""
        with without_weights():
            encoder, decoder = build_encoder(self.config), build_decoder(self.config)
            return Checkpoint(self.config, self.tokenizer, encoder, decoder, build_detokenizer(self.config))

    def fingerprint(self) -> str:
        """Tell these files from others, and from changed ones, without reading the big ones: by path, size and time of change."""
        digest = hashlib.sha256(repr(self.config).encode())
        for file in (self.spec.encoder, self.spec.decoder, self.spec.detokenizer, self.spec.vocab):
            path = self.source.find(file).resolve()
            status = path.stat()
            digest.update(f"{path}/{status.st_size}/{status.st_mtime_ns}".encode())
        return digest.hexdigest()


def find_model(model: str, *, models_root: Path | None = None, progress: bool = True) -> ModelFiles:
    """Find a model of the table by its name: in `models_root` if given, which must then hold all its files, else from the hub.

    Tiny comes from the repository's own `models/`, unless `models_root` has a folder `tiny`.
    Raises InvalidRequest for an unknown name, CheckpointError for a file that is missing or not what it should be,
    HubUnreachable.
    """
    spec = model_spec(model)
    source = _source(spec, models_root, progress)
    has_config = spec.sizes is None or source.has(spec.config)
    for file in [*([spec.config] if has_config else []), spec.vocab, spec.merges, spec.encoder, spec.decoder, spec.detokenizer]:
        source.find(file)  # all of them before the first is read: a late download would hold up a loaded half

    config = spec.sizes
    if config is None or has_config:
        with _refusing(source, spec.config) as path:
            config = read_config(path, spec.sizes)
    with _refusing(source, spec.vocab) as path:
        vocab = _read_vocab(path)
    with _refusing(source, spec.merges) as path:
        merges = _read_merges(path)
    return ModelFiles(config, TextTokenizer(vocab, merges), spec, source)


def load_checkpoint(
    model: str,
    *,
    models_root: Path | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
) -> Checkpoint:
    """Find a model and load its weights, by default as what the table says; see `find_model` and `ModelFiles.load` for errors."""
    files = find_model(model, models_root=models_root, progress=progress)
    return files.load(dtype or getattr(torch, files.spec.dtype), progress=progress)


def _source(spec: ModelSpec, models_root: Path | None, progress: bool) -> Source:
    if models_root is None:
        return FolderSource(BUILT_IN_MODELS) if spec.sizes is None else HubSource.from_environment(progress=progress)
    if spec.sizes is None and not is_there((models_root / spec.config.path).parent):
        _log.warning("%s has no folder %s: the built-in one draws", models_root, spec.name)
        return FolderSource(BUILT_IN_MODELS)
    return FolderSource(models_root)


@contextmanager
def _refusing(source: Source, file: WeightFile) -> Iterator[Path]:
    """Give the file's path; if its content is refused inside, tell the source and add the remedy to the message."""
    path = source.find(file)
    try:
        yield path
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {source.refuse(file)}") from error


def _read_vocab(path: Path) -> dict[str, int]:
    try:
        vocab = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable as JSON") from error
    if not isinstance(vocab, dict) or not all(type(token) is int and token >= 0 for token in vocab.values()):
        raise CheckpointError(f"{path} does not map subwords to token ids")
    for subword in ("<s>", "</s>", "<unk>"):
        if subword not in vocab:
            raise CheckpointError(f"{path} lacks the subword {subword}")
    return vocab


def _read_merges(path: Path) -> list[str]:
    try:
        merges = path.read_text(encoding="utf-8").split("\n")[1:-1]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable as text") from error
    for number, pair in enumerate(merges, start=2):
        if len(pair.split()) != 2:
            raise CheckpointError(f"{path}: line {number} is not a pair of subwords")
    return merges
