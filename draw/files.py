"""The files that the drawing command writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from consts import ImageFormat
from utils import encode_image


class NotWritten(Exception):
    """A file or folder could not be written: one line with the reason and the remedy."""


def make_folder(folder: Path, flag: str = "--output_dir") -> None:
    """Create a folder if it is missing. Raises NotWritten, which names the flag."""
    with _writing(folder, flag):
        folder.mkdir(parents=True, exist_ok=True)


def save_image(image: Image.Image, folder: Path, name: str, image_format: ImageFormat) -> Path:
    """Save an image under a new name, beside the files that are there, and return its path. Raises NotWritten."""
    data = encode_image(image, image_format)
    with _writing(folder, "--output_dir"):
        path, file = _new_file(folder, name, image_format.value)
        try:
            with file:
                file.write(data)
        except BaseException:
            path.unlink(missing_ok=True)  # no half-written file stays
            raise
    return path


def replace_jpeg(image: Image.Image, path: Path, flag: str) -> None:
    """Save an image at a path, in place of what is there. Raises NotWritten, which names the flag."""
    data = encode_image(image, ImageFormat.JPEG)
    with _writing(path, flag):
        path.write_bytes(data)


def _new_file(folder: Path, name: str, extension: str) -> tuple[Path, BinaryIO]:
    """Open a file that did not exist, with a number in its name if necessary."""
    for number in count(1):
        path = folder / f"{name}{'' if number == 1 else f'-{number}'}.{extension}"
        try:
            return path, path.open("xb")
        except FileExistsError:
            continue
    raise AssertionError("count never ends")


@contextmanager
def _writing(path: Path, flag: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise NotWritten(f"can't write to {path} ({reason}): choose another with {flag}") from error
