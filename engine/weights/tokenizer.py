"""The tokenizer's files, vocab.json and merges.txt, checked as they are read."""

from __future__ import annotations

import json
from pathlib import Path

from engine.errors import CheckpointError
from engine.upstream.tokenizer import TextTokenizer


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Load min-dalle's tokenizer from a folder with both files. Raises CheckpointError."""
    return TextTokenizer(read_vocab(folder / "vocab.json"), read_merges(folder / "merges.txt"))


def read_vocab(path: Path) -> dict[str, int]:
    """Read vocab.json: subword -> token id. Raises CheckpointError."""
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


def read_merges(path: Path) -> list[str]:
    """Read merges.txt: pairs of subwords, best first. Raises CheckpointError."""
    try:
        merges = path.read_text(encoding="utf-8").split("\n")[1:-1]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable as text") from error
    for number, pair in enumerate(merges, start=2):
        if len(pair.split()) != 2:
            raise CheckpointError(f"{path}: line {number} is not a pair of subwords")
    return merges
