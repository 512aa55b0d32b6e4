"""A record of the names that a process and its children look up, and of the addresses that they connect to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CAN_RECORD = sys.platform == "linux" and shutil.which("cc") is not None


class NameRecorder:
    """A library that is loaded into every process started with `environment`, and the file that it writes to.

    Where it cannot be compiled, nothing is recorded.
    """

    def __init__(self, folder: Path) -> None:
        self._library, self._file = folder / "asked_names.so", folder / "asked_names"
        if CAN_RECORD:
            source = Path(__file__).with_suffix(".c")
            subprocess.run(["cc", "-shared", "-fPIC", "-o", self._library, source, "-ldl"], check=True)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process to record."""
        return {"LD_PRELOAD": str(self._library), "ASKED_NAMES": str(self._file)} if CAN_RECORD else {}

    @property
    def names(self) -> set[str]:
        """The names looked up by now, and the addresses connected to except this machine's own."""
        return set(self._file.read_text().split()) if self._file.exists() else set()

    def is_in(self, process: int) -> bool:
        """Whether a process has loaded the library."""
        return self._library.name in Path(f"/proc/{process}/maps").read_text()
