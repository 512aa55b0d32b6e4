"""Running servers and browsers for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.end_to_end.browser import Visit, chromium
from tests.end_to_end.server_process import ServerProcess


@pytest.fixture(scope="session")
def output_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generations")


@pytest.fixture(scope="session")
def server(output_dir: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--save_to_disk", "--output_dir", str(output_dir)) as running:
        yield running


@pytest.fixture(scope="session")
def custom_server() -> Iterator[ServerProcess]:
    """Run a server with several independent settings that are not the default."""
    flags = ("--url_ttl", "1", "--trust_proxy", "--cors_origins", "https://play.example", "--runner", "torch")
    with ServerProcess(*flags, DALLE_PROT="1") as running:
        yield running


# Closed at the end of a module: while Playwright runs, no other test can start its own event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, server: ServerProcess) -> Iterator[Callable[..., Visit]]:
    """Return a function that opens the page in a new profile, by default on the shared server; page errors fail the test."""
    visits: list[Visit] = []

    def open_page(url: str = server.url, **options: Any) -> Visit:
        visits.append(Visit(browser, url, **options))
        visits[-1].open()
        return visits[-1]

    yield open_page
    for visited in visits:
        visited.leave()
