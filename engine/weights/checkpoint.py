"""Finding, checking and loading a model's weights.

find_model(name)
    model_spec                      the model's row in the table
    source.find, for each file      a path: in the repository, in --models_root, or in the hub's cache
    read_config, read_vocab, ...    the small files
load
    read_tensors, fill_module       each weight file into a module built without memory

torch, and what imports it, is imported in the functions that load weights: a start whose converted weights are kept needs none.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import CheckpointError
from engine.progress import tqdm
from engine.upstream.tokenizer import TextTokenizer
from engine.weights.config import ModelConfig, read_config
from engine.weights.known_words import KnownWords, read_known_words
from engine.weights.models import ModelSpec, WeightFile, model_spec
from engine.weights.sources import FolderSource, Source, path_exists
from engine.weights.tokenizer import read_merges, read_vocab

if TYPE_CHECKING:
    import torch
    from torch import nn

    from engine.upstream.modules import DalleBartDecoder, DalleBartEncoder

BUILT_IN_MODELS = Path(__file__).resolve().parents[2] / "models"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A model in memory: its modules, on the CPU and ready to run, its tokenizer and its sizes."""

    config: ModelConfig
    tokenizer: TextTokenizer
    encoder: DalleBartEncoder
    decoder: DalleBartDecoder
    detokenizer: nn.Module  # always float32, as in min-dalle


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk: sizes and tokenizer are read, weights are not until `load`."""

    config: ModelConfig
    tokenizer: TextTokenizer
    spec: ModelSpec
    source: Source

    def load(self, dtype: torch.dtype | None, *, progress: bool = True) -> Checkpoint:
        """Read the weights.

        Args:
            dtype: The type of the encoder's and decoder's weights. None keeps the stored type, so that a caller that
                converts them one by one never has all of them in memory as float32.
            progress: Whether to show a progress bar.

        Raises CheckpointError.
        """
        import torch

        from engine.weights.tensor_file import fill_module, read_tensors

        spec = self.spec
        checkpoint = self._skeleton()
        parts: list[tuple[WeightFile, nn.Module, torch.dtype | None]] = [
            (spec.encoder, checkpoint.encoder, dtype),
            (spec.decoder, checkpoint.decoder, dtype),
            (spec.detokenizer, checkpoint.detokenizer, torch.float32),
        ]
        with tqdm(parts, desc=f"loading {self.config.name}", unit="file", disable=None if progress else True) as bar:
            for file, module, part_dtype in bar:
                with _validating(self.source, file) as path:
                    fill_module(module, read_tensors(path), part_dtype, path)
                module.eval().requires_grad_(False)
        return checkpoint

    def _skeleton(self) -> Checkpoint:
        """Build the modules on torch's meta device, without memory for their weights."""
        from engine.weights.detokenizer import build_detokenizer
        from engine.weights.skeleton import build_decoder, build_encoder, without_weights

        with without_weights():
            encoder, decoder = build_encoder(self.config), build_decoder(self.config)
            return Checkpoint(self.config, self.tokenizer, encoder, decoder, build_detokenizer(self.config))

    def known_words(self) -> KnownWords | None:
        """Read the list of what the model draws; None if there is none. Raises CheckpointError."""
        file = self.spec.known_words
        if file is None or not self.source.has(file):
            return None
        with _validating(self.source, file) as path:
            return read_known_words(path)

    def fingerprint(self) -> str:
        """Return a hash that changes with the files: of their paths, sizes and modification times, not their content."""
        digest = hashlib.sha256(repr(self.config).encode())
        for file in (self.spec.encoder, self.spec.decoder, self.spec.detokenizer, self.spec.vocab):
            path = self.source.find(file).resolve()
            status = path.stat()
            digest.update(f"{path}/{status.st_size}/{status.st_mtime_ns}".encode())
        return digest.hexdigest()


def find_model(model: str, *, models_root: Path | None = None, progress: bool = True) -> ModelFiles:
    """Find a model's files and read the small ones.

    Args:
        model: A name in the table of models, in any case.
        models_root: A folder with all the model's files. None: download them from the hub. Tiny comes from the repository's
            `models/` unless `models_root` has a folder `tiny`.
        progress: Whether to show progress bars.

    Raises InvalidRequest for an unknown name, CheckpointError for a missing or invalid file, HubUnreachable.
    """
    spec = model_spec(model)
    source = _source(spec, models_root, progress)
    has_config = spec.sizes is None or source.has(spec.config)
    for file in [*([spec.config] if has_config else []), *spec.required_files]:
        source.find(file)  # download everything first: a late download would hold up a half-loaded model

    config = spec.sizes
    if config is None or has_config:
        with _validating(source, spec.config) as path:
            config = read_config(path, spec.sizes)
    with _validating(source, spec.vocab) as path:
        vocab = read_vocab(path)
    with _validating(source, spec.merges) as path:
        merges = read_merges(path)
    return ModelFiles(config, TextTokenizer(vocab, merges), spec, source)


def load_checkpoint(
    model: str,
    *,
    models_root: Path | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
) -> Checkpoint:
    """Find a model and load its weights, by default as the table's type.

    Raises what `find_model` and `ModelFiles.load` raise.
    """
    import torch

    files = find_model(model, models_root=models_root, progress=progress)
    return files.load(dtype or getattr(torch, files.spec.dtype), progress=progress)


def _source(spec: ModelSpec, models_root: Path | None, progress: bool) -> Source:
    if models_root is None and spec.sizes is not None:
        from engine.weights.hub import HubSource  # late, as it imports huggingface_hub, which takes a while

        return HubSource.from_environment(progress=progress)
    if models_root is None:
        return FolderSource(BUILT_IN_MODELS)
    if not path_exists(models_root) or not models_root.is_dir():
        raise CheckpointError(f"{models_root} is not a folder: choose another --models_root, or start without it")
    if spec.sizes is None and not path_exists((models_root / spec.config.path).parent):
        _log.warning("%s has no folder %s: using the built-in model", models_root, spec.name)
        return FolderSource(BUILT_IN_MODELS)
    return FolderSource(models_root)


@contextmanager
def _validating(source: Source, file: WeightFile) -> Iterator[Path]:
    """Yield the file's path. On CheckpointError inside, reject the file at its source and add the remedy to the message."""
    path = source.find(file)
    try:
        yield path
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {source.reject(file)}") from error
