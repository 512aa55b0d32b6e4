"""Where a model's files come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.errors import CheckpointError
from engine.weights.models import HUB_REPO, WeightFile


class Source(Protocol):
    """A place that a model's files come from."""

    def has(self, file: WeightFile) -> bool:
        """Whether the file is available here."""

    def find(self, file: WeightFile) -> Path:
        """Return the file's path, downloading it if needed. Raises CheckpointError if it is not available."""

    def reject(self, file: WeightFile) -> str:
        """Drop the source's copy of a file whose content is invalid, where it can, and return the remedy for the user."""


def path_exists(path: Path) -> bool:
    """Whether a file or folder exists. Raises CheckpointError if the system does not allow to look."""
    try:
        path.stat()  # from Python 3.14 on, `Path.exists` returns False if it could not look
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise CheckpointError(f"{path} can't be accessed ({error.strerror}): choose another --models_root") from error
    return True


@dataclass(frozen=True)
class FolderSource:
    """A folder laid out as min-dalle's `models_root`; read only."""

    root: Path

    def has(self, file: WeightFile) -> bool:
        """Whether the file is in the folder."""
        return path_exists(self.root / file.path)

    def find(self, file: WeightFile) -> Path:
        """Return the file's path. Raises CheckpointError if it is missing, with the way to get it."""
        path = self.root / file.path
        if not path_exists(path):
            raise CheckpointError(f"{path} is missing: {self._remedy(file)}")
        return path

    def reject(self, file: WeightFile) -> str:
        """Return the way to get a good copy."""
        return self._remedy(file)

    def _remedy(self, file: WeightFile) -> str:
        if file.hub_name is None:
            return f"restore it with: git checkout -- models/{file.path}"
        return (
            f"save {file.hub_name} from https://huggingface.co/{HUB_REPO}/tree/main under that name, "
            "or start without --models_root to download it"
        )
