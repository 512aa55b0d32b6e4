"""Standard output and error that may be missing, or whose reader may have gone."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def ensure_streams() -> None:
    """Replace standard streams that are missing by the null device.

    They are None in a windowed program (`pythonw`) and after `2>&-`. The file descriptors 0 to 2 are taken as well: otherwise the
    next file or socket that is opened would get what C libraries write to them.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # open for the rest of the process


def say(text: str) -> None:
    """Print a line. Once nobody reads standard output any more, drop this line and all later ones."""
    try:
        print(text, flush=True)
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
