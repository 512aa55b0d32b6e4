"""A real server for tests that provoke faults; their long forms are marked `soak`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.server_process import ServerProcess


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """Run a server with a short queue, for all tests that leave it unchanged."""
    with ServerProcess("--max_batch_size", "8", "--max_queue", "8", "--log_level", "warning") as running:
        yield running
