"""Give the end-to-end tests one running server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.server_process import ServerProcess


@pytest.fixture(scope="session")
def output_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generations")


@pytest.fixture(scope="session")
def server(output_dir: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--save_to_disk", "--output_dir", str(output_dir)) as running:
        yield running
