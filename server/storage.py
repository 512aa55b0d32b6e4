"""Save images: one folder a request, safe names, all of it or nothing."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from utils import slugify

log = logging.getLogger("dalle.storage")

TEMPORARY_PREFIX = ".unfinished-"


def check_writable(folder: Path) -> None:
    """Make sure that a folder is there and takes files, by making one; raise OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    probe.mkdir()
    try:
        (probe / "probe").write_bytes(b"probe")
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def request_folder_name(prompt: str, now: datetime) -> str:
    """Name a request's folder `<time>_<slug of the prompt>_<random id>`: plain ASCII on any system, whatever the prompt holds."""
    return f"{now.astimezone(timezone.utc):%Y-%m-%dT%H-%M-%SZ}_{slugify(prompt)}_{secrets.token_hex(4)}"


def save_images(encoded: Sequence[bytes], extension: str, prompt: str, output_dir: Path) -> Path:
    """Save encoded images as `0.<extension>`, `1.<extension>` ... in a new folder of their own; raise OSError.

    They are written under a temporary name that is then renamed, so under a final name there are whole requests only.
    """
    name = request_folder_name(prompt, datetime.now(timezone.utc))
    temporary, final = output_dir / f"{TEMPORARY_PREFIX}{name}", output_dir / name
    temporary.mkdir(parents=True)
    try:
        for index, data in enumerate(encoded):
            _write_synced(temporary / f"{index}.{extension}", data)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def save_or_warn(encoded: Sequence[bytes], extension: str, prompt: str, output_dir: Path) -> list[str]:
    """Save encoded images; where that fails, log why and give a warning for the caller, who is to get the images all the same."""
    try:
        folder = save_images(encoded, extension, prompt, output_dir)
    except OSError as error:
        log.error("the images could not be saved: %s", error)
        return ["The images could not be saved on the server's disk; its log says why."]
    log.debug("saved %d images in %s", len(encoded), folder)
    return []


def _write_synced(path: Path, data: bytes) -> None:
    """Write a file down to the disk, so that after a power cut the renamed folder holds no empty one."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
