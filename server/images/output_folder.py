"""Save images: one folder a request, safe names, all of it or nothing."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from host.unfinished import unfinished_folder
from server.images.disk_budget import DiskBudget
from utils import slugify

log = logging.getLogger("dalle.storage")

_WARNING = "The images could not be saved on the server's disk; its log says why."


class StorageObserver(Protocol):
    """Be told what became of what was to be saved."""

    def saved(self, images: int) -> None:
        """Hear that so many images were saved."""

    def save_failed(self) -> None:
        """Hear that a request's images could not be saved."""

    def removed(self, requests: int) -> None:
        """Hear that so many old requests were removed to make room."""


class Storage:
    """Keep requests' images in a folder, if asked below a size of `max_bytes`."""

    def __init__(self, folder: Path, max_bytes: int | None, observer: StorageObserver) -> None:
        self._folder = folder
        self._budget = None if max_bytes is None else DiskBudget(folder, max_bytes)
        self._observer = observer

    def save_or_warn(self, encode: Callable[[], Sequence[bytes]], extension: str, prompt: str) -> list[str]:
        """Encode images and save them; where that fails, log why and give a warning for the caller, who is to get them anyway."""
        try:
            encoded = encode()
            if self._budget is not None:
                self._observer.removed(self._budget.make_room([len(data) for data in encoded]))
            folder = save_images(encoded, extension, prompt, self._folder)
        except (OSError, ValueError) as error:  # the latter: the format has no room for what is said inside
            # Not the error itself: it has the names of files, and the prompt's words are in one.
            reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
            log.error("the images could not be saved in %s: %s", self._folder, reason)
            self._observer.save_failed()
            return [_WARNING]
        log.debug("saved %d images in a folder whose name ends in %s", len(encoded), folder.name[-8:])
        self._observer.saved(len(encoded))
        return []


def check_writable(folder: Path) -> None:
    """Make sure that a folder is there and takes files, by making one; raise OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(folder) as probe:
        (probe / "probe").write_bytes(b"probe")


def request_folder_name(prompt: str, now: datetime) -> str:
    """Name a request's folder `<time>_<slug of the prompt>_<random id>`: plain ASCII on any system, whatever the prompt holds."""
    return f"{now.astimezone(UTC):%Y-%m-%dT%H-%M-%SZ}_{slugify(prompt)}_{secrets.token_hex(4)}"


def save_images(encoded: Sequence[bytes], extension: str, prompt: str, output_dir: Path) -> Path:
    """Save encoded images as `0.<extension>`, `1.<extension>` ... in a new folder of their own; raise OSError.

    They are written under a temporary name that is then renamed, so under a final name there are whole requests only.
    """
    final = output_dir / request_folder_name(prompt, datetime.now(UTC))
    with unfinished_folder(output_dir) as temporary:
        for index, data in enumerate(encoded):
            _write_synced(temporary / f"{index}.{extension}", data)
        temporary.rename(final)
    return final


def _write_synced(path: Path, data: bytes) -> None:
    """Write a file down to the disk, so that after a power cut the renamed folder holds no empty one."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
