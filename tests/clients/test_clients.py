"""Real clients, unchanged, each in an environment of its own: `make clients`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.server_process import ROOT, ServerProcess

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]

SCRIPTS = Path(__file__).parent
ENVIRONMENTS = ROOT / ".clients"
INSTALL_SECONDS = 600


@dataclass(frozen=True)
class Client:
    """A client's packages, and the script that calls the server with it."""

    name: str
    script: str
    packages: tuple[str, ...]


CLIENTS = (
    Client("openai-0.28", "openai_0_28.py", ("openai==0.28.1",)),
    Client("openai-1", "openai_1.py", ("openai<2",)),
    Client("openai-newest", "openai_1.py", ("openai",)),
    Client("openai-node", "openai_node.mjs", ("openai@6", "ai@6", "@ai-sdk/openai@3")),
    Client("webuiapi", "webuiapi_txt2img.py", ("webuiapi",)),
    Client("agno", "agno_dalle.py", ("agno", "openai")),
    Client("langchain", "langchain_dalle.py", ("langchain-community", "openai")),
    Client("litellm", "litellm_images.py", ("litellm",)),
)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_an_unchanged_client_gets_its_images(client: Client, server: ServerProcess) -> None:
    command = installed(client)
    run = subprocess.run(
        command,
        env={**os.environ, "DALLE_URL": server.url},
        cwd=ENVIRONMENTS / client.name,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]


def installed(client: Client) -> list[str]:
    """Install a client's packages unless they are installed, and return the command that runs its script."""
    folder = ENVIRONMENTS / client.name
    is_ready = folder / ".ready"
    python, is_node = folder / "bin" / "python", client.script.endswith(".mjs")
    if is_node and shutil.which("npm") is None:
        pytest.skip("npm is not installed (Debian: apt-get install nodejs npm)")
    if not is_ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if is_node:
            install(["npm", "install", "--silent", *client.packages], folder)
        else:
            install([sys.executable, "-m", "venv", str(folder)], folder)
            install([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *client.packages], folder)
        is_ready.touch()
    if is_node:  # Node looks for modules beside the script
        shutil.copy(SCRIPTS / client.script, folder)
        return ["node", client.script]
    return [str(python), str(SCRIPTS / client.script)]


def install(command: list[str], folder: Path) -> None:
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    assert run.returncode == 0, run.stderr[-3000:]
