"""The sha256 of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tqdm import tqdm

_CHUNK = 1 << 20  # bytes


def file_sha256(path: Path, *, progress: bool) -> str:
    """Hash a file, in hexadecimal, under a progress bar: gigabytes take seconds."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file, tqdm(total=size, desc="verifying", unit="B", unit_scale=True, disable=not progress) as bar:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()
