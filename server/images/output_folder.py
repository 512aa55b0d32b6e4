"""The folder that images are saved in: one folder for each request, with a safe name, complete or not there at all."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from PIL import Image

from consts import ImageFormat
from dalle_model import Drawing
from host.unfinished import unfinished_folder
from server.images.disk_budget import DiskBudget
from server.images.metadata import describe, describe_sheet, encode_with_metadata
from server.images.sizes import Size
from utils import slugify

log = logging.getLogger("dalle.storage")

_WARNING = "The images could not be saved on the server's disk; its log says why."


class SavingObserver(Protocol):
    """A listener for what became of saved images."""

    def saved(self, images: int) -> None:
        """Images were saved."""

    def save_failed(self) -> None:
        """A request's images could not be saved."""

    def removed(self, requests: int) -> None:
        """Old requests were removed to make room."""


class OutputFolder:
    """A folder of saved requests, kept below `max_bytes` unless that is None."""

    def __init__(self, path: Path, max_bytes: int | None, observer: SavingObserver) -> None:
        self._path = path
        self._budget = None if max_bytes is None else DiskBudget(path, max_bytes)
        self._observer = observer

    @property
    def used_ratio(self) -> float:
        """The share of `max_bytes` that saved requests take; 0 without a limit."""
        return 0.0 if self._budget is None else self._budget.used_ratio

    def save(
        self, drawing: Drawing, image_format: ImageFormat, size: Size | None = None, sheet: Image.Image | None = None
    ) -> list[str]:
        """Save a drawing's images, scaled to `size`, and their sheet, each with its metadata. Return warnings for the caller.

        A failure is a warning, not an error: the caller gets the images anyway.
        """
        pictures = {str(index): image for index, image in enumerate(drawing.images)}
        described = describe(drawing)
        if sheet is not None:
            pictures["grid"] = sheet
            described = [*described, describe_sheet(drawing)]
        try:
            encoded = {
                f"{name}.{image_format.value}": encode_with_metadata(picture, image_format, metadata, size)
                for (name, picture), metadata in zip(pictures.items(), described, strict=True)
            }
            if self._budget is not None:
                self._observer.removed(self._budget.make_room([len(data) for data in encoded.values()]))
            folder = save_files(encoded, drawing.request.prompt, self._path)
        except (OSError, ValueError) as error:  # ValueError: the metadata is too long for the format
            # Not the error itself: it names files, and a file's name has words of the prompt.
            reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
            log.error("the images could not be saved in %s: %s", self._path, reason)
            self._observer.save_failed()
            return [_WARNING]
        log.debug("saved %d images in a folder whose name ends in %s", len(encoded), folder.name[-8:])
        self._observer.saved(len(encoded))
        return []


def save_drawing(
    folder: OutputFolder | None,
    drawing: Drawing,
    image_format: ImageFormat,
    size: Size | None = None,
    sheet: Image.Image | None = None,
) -> list[str]:
    """Save a drawing if there is a folder to save in; see `OutputFolder.save`."""
    return [] if folder is None else folder.save(drawing, image_format, size, sheet)


def check_writable(folder: Path) -> None:
    """Create a folder if it is missing, and check that files can be written there. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(folder) as probe:
        (probe / "probe").write_bytes(b"probe")


def request_folder_name(prompt: str, now: datetime) -> str:
    """Return `<time>_<slug of the prompt>_<random id>`, a valid name on every system whatever the prompt holds."""
    return f"{now.astimezone(UTC):%Y-%m-%dT%H-%M-%SZ}_{slugify(prompt)}_{secrets.token_hex(4)}"


def save_files(files: Mapping[str, bytes], prompt: str, output_dir: Path) -> Path:
    """Save files by their names in a new folder for a prompt, and return it. Raises OSError.

    They are written under a temporary name that is then changed, so a final name never holds half a request.
    """
    final = output_dir / request_folder_name(prompt, datetime.now(UTC))
    with unfinished_folder(output_dir) as temporary:
        for name, data in files.items():
            _write_synced(temporary / name, data)
        temporary.rename(final)
    return final


def _write_synced(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk, so that the renamed folder holds no empty file after a power cut."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
