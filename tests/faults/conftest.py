"""Run what provokes faults on the real process; the long forms are marked `soak`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.server_process import ServerProcess


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """Be a server with a short queue, for all of these tests that leave it as it was."""
    with ServerProcess("--max_batch_size", "8", "--max_queue", "8", "--log_level", "warning") as running:
        yield running
