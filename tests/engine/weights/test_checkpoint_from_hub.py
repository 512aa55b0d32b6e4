"""A process that loads Mini from a hub: it caches files, replaces invalid ones and keeps one copy in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.random_weights import MINI_SIZES, write_hub_folder, write_models_root
from tests.loopback_hub import closed_port, serve_hub, serve_random_weights

ROOT = Path(__file__).parents[3]


def start(environment: dict[str, str], code: str = "", models_root: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Load Mini in a new process, which reads huggingface_hub's variables as a server's start does."""
    root = f"pathlib.Path({str(models_root)!r})" if models_root else None
    load = "import pathlib; from engine.weights.checkpoint import load_checkpoint"
    load += f"; checkpoint = load_checkpoint('Mini', models_root={root}); print(checkpoint.config)"
    return subprocess.run(
        [sys.executable, "-c", f"{load}\n{code}"], cwd=ROOT, env=inherited() | environment, capture_output=True, text=True
    )


def inherited() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "DALLE_"))}


def test_mini_comes_from_the_hub_and_then_from_the_cache(tmp_path: Path) -> None:
    with serve_random_weights() as hub:
        first = start(hub.environment(tmp_path))
        assert "embed_count=64" in first.stdout, first.stderr
    again = start(hub.environment(tmp_path))  # the hub is gone
    assert again.stdout == first.stdout
    offline = start(hub.environment(tmp_path) | {"HF_HUB_OFFLINE": "1"})
    assert offline.stdout == first.stdout


def test_without_a_hub_the_error_says_so_and_offers_tiny(tmp_path: Path) -> None:
    """The published repository, at an address where no server listens."""
    result = start({"HF_ENDPOINT": f"http://127.0.0.1:{closed_port()}", "HF_HOME": str(tmp_path)})
    last = result.stderr.splitlines()[-1]
    assert last.startswith("engine.errors.HubUnreachable: config_mini.json is not cached") and "--model_version Tiny" in last


LOAD_AT_EACH_LINE = """
import sys
from engine.weights.checkpoint import load_checkpoint
for _ in sys.stdin:
    try:
        print(load_checkpoint("Mini").config, flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


class Loader:
    """A process that loads Mini each time it is asked to: most of a start's time goes into imports."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOAD_AT_EACH_LINE],
            cwd=ROOT,
            env=inherited() | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def load(self) -> str:
        """Load Mini; return the line of its sizes, or the kind of error and its message."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        return self._process.stdout.readline()


def test_a_web_page_in_place_of_a_file_is_removed_from_the_cache(tmp_path: Path) -> None:
    """The hub's size and hash are those of the page, so only the content shows that it is invalid."""
    folder, home = write_hub_folder(tmp_path / "served"), tmp_path / "home"
    right = {name: (folder / name).read_bytes() for name in ("encoder_mini.pt", "vocab_mini.json")}
    for name in right:
        (folder / name).write_text("<!doctype html><title>Please log in</title>")
    with serve_hub(folder) as hub, Loader(hub.environment(home)) as loader:
        while right:  # each is refused once
            refused = loader.load()
            [name] = [name for name in right if name in refused]
            assert refused.startswith("CheckpointError ") and "start again" in refused
            (folder / name).write_bytes(right.pop(name))
            hub.hashes.clear()
        assert not any("log in" in path.read_text(errors="replace") for path in home.rglob("blobs/*"))
        assert "embed_count=64" in loader.load()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory from /proc")
def test_mini_at_its_true_sizes_is_in_memory_once() -> None:
    count = (
        "print(sum(p.numel() for m in (checkpoint.encoder, checkpoint.decoder, checkpoint.detokenizer) for p in m.parameters()))"
    )
    # Anonymous memory only: the system can reclaim the pages of mapped files.
    anonymous = "import re, pathlib; print(re.search(r'RssAnon:\\s+(\\d+) kB', pathlib.Path('/proc/self/status').read_text())[1])"
    with tempfile.TemporaryDirectory() as folder:  # pytest would keep tmp_path: 1 GB per run
        result = start({}, f"{count}\n{anonymous}", write_models_root(Path(folder), MINI_SIZES))
    assert result.returncode == 0, result.stderr
    config, parameters, kilobytes = result.stdout.splitlines()
    assert "embed_count=1024" in config and "detokenizer=None" in config
    assert 480_000_000 < int(parameters) < 490_000_000
    assert int(kilobytes) * 1024 < int(parameters) * 4 + 500_000_000
