"""Where the files of a model come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.errors import CheckpointError
from engine.weights.models import HUB_REPO, WeightFile


class Source(Protocol):
    """Be a place that has the files of a model."""

    def has(self, file: WeightFile) -> bool:
        """Tell if the file is to be had here."""

    def find(self, file: WeightFile) -> Path:
        """Give the path of a file, fetched first where that is needed; raises CheckpointError if it can't be had."""

    def refuse(self, file: WeightFile) -> str:
        """Take note that the file's content is no good, and say what the user can do."""


def is_there(path: Path) -> bool:
    """Tell if a file or folder is there; raise CheckpointError where that can't be told."""
    try:
        path.stat()  # `Path.exists` hides from Python 3.14 on that it could not look
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise CheckpointError(f"{path} can't be looked for ({error.strerror}): choose another --models_root") from error
    return True


@dataclass(frozen=True)
class FolderSource:
    """Find the files in a folder laid out as min-dalle's `models_root`; change nothing in it."""

    root: Path

    def has(self, file: WeightFile) -> bool:
        """Tell if the file is in the folder."""
        return is_there(self.root / file.path)

    def find(self, file: WeightFile) -> Path:
        """Give the path of a file; raises CheckpointError, saying how to get it, if it is missing."""
        path = self.root / file.path
        if not is_there(path):
            raise CheckpointError(f"{path} is missing: {self._remedy(file)}")
        return path

    def refuse(self, file: WeightFile) -> str:
        """Say how to get a good copy."""
        return self._remedy(file)

    def _remedy(self, file: WeightFile) -> str:
        if file.hub_name is None:
            return f"restore it with: git checkout -- models/{file.path}"
        return (
            f"save {file.hub_name} from https://huggingface.co/{HUB_REPO}/tree/main under that name, "
            "or start without --models_root to have it downloaded"
        )
