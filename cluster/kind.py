"""What decides whether two machines draw the same bits: settings, processor, libraries; and a first picture, to compare."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from PIL import Image

from consts import VERSION
from host.processor import processor

_LIBRARIES = ("torch", "openvino", "numpy")


@dataclass(frozen=True)
class Kind:
    """A kind of machine. Machines of one kind draw the same image from the same seed."""

    settings: str
    processor: str
    libraries: str
    picture: str  # the hash of the first picture, which shows differences that nobody has listed

    def __str__(self) -> str:
        """Return the parts that people can compare."""
        return f"{self.settings} on {self.processor} with {self.libraries}, first picture {self.picture}"


def kind_here(settings: str, picture: Image.Image) -> Kind:
    """Return this machine's kind, from the settings of its model and the first picture that it drew."""
    libraries = ", ".join([f"version {VERSION}", *(f"{name} {_version(name)}" for name in _LIBRARIES)])
    return Kind(settings, processor(), libraries, hashlib.sha256(picture.tobytes()).hexdigest()[:12])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
