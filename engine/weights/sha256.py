"""The sha256 of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.progress import tqdm

_CHUNK = 1 << 20  # bytes


def file_sha256(path: Path, *, progress: bool) -> str:
    """Return a file's sha256 in hexadecimal, with a progress bar: gigabytes take seconds."""
    digest = hashlib.sha256()
    bar = tqdm(total=path.stat().st_size, desc="verifying", unit="B", unit_scale=True, disable=None if progress else True)
    with path.open("rb") as file, bar:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()
