"""A server killed while it saves, and prompts that try to escape from the output folder."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import pytest
import requests
from PIL import Image

from tests.end_to_end.callers import TIMEOUT_SECONDS, draw
from tests.end_to_end.server_process import ServerProcess
from tests.faults.calling import connect, metrics, raw_post

IMAGES_PER_REQUEST = 4
CALLERS = 12
NAME = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ_[a-z0-9-]{1,60}_[0-9a-f]{8}"

ESCAPES = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "~/.ssh/authorized_keys",
    "C:\\Windows\\System32\\drivers",
    "\\\\server\\share",
    "a\0b",
    "$(touch escaped) `touch escaped` ; touch escaped",
    "%2e%2e%2fescaped",
    "..%c0%af..%c0%afescaped",
    "．．／escaped",
    "\r\n\x1b[2J\u202e",
    "CON",
    "x" * 4000,
    "🦊" * 1000,
]


def unfinished(folder: Path) -> bool:
    return any(name.startswith(".unfinished-") for name in os.listdir(folder))


def wait_for_a_save(folder: Path, whole: int) -> None:
    """Wait, without a pause as a save takes milliseconds, until a save is in progress and `whole` requests are saved."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (len(list(folder.glob("[0-9]*/0.png"))) >= whole and unfinished(folder)):
        assert time.monotonic() < deadline


def whole_requests(folder: Path) -> Iterator[Path]:
    """Check each saved request, and yield its folder."""
    for request in folder.iterdir():
        assert re.fullmatch(NAME, request.name)
        assert sorted(path.name for path in request.iterdir()) == [f"{index}.png" for index in range(IMAGES_PER_REQUEST)]
        for path in request.iterdir():
            with Image.open(BytesIO(path.read_bytes())) as image:
                image.load()  # raises on a truncated file
        yield request


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_a_kill_while_saving_leaves_whole_requests_and_the_next_start_removes_the_rest(tmp_path: Path, kills: int) -> None:
    folder = tmp_path / "generations"
    swept = 0
    for number in range(kills):
        already = len(list(folder.glob("[0-9]*/0.png")))
        with ServerProcess("--save_to_disk", "--output_dir", str(folder)) as running, ExitStack() as stack:
            swept += sum("unfinished folders" in line for line in running.log)
            assert not unfinished(folder)
            for seed in range(CALLERS):
                caller = stack.enter_context(connect(running))
                caller.sendall(raw_post(text="a red circle", num_images=IMAGES_PER_REQUEST, img_format="png", seed=seed))
            wait_for_a_save(folder, already + (number + 1) % 4)
            running.process.kill()
            running.process.wait()
    # An empty folder, left by a kill right after its creation, is removed without a line in the log.
    kept = any(any(left.iterdir()) for left in folder.glob(".unfinished-*"))
    with ServerProcess("--save_to_disk", "--output_dir", str(folder)) as running:
        assert not unfinished(folder)
        swept += sum("unfinished folders" in line for line in running.log)
        requests.get(running.url, timeout=60)
    whole = len(list(whole_requests(folder)))
    assert swept or not kept
    print(f"\nkilled {kills} times while saving: {whole} requests whole, 0 incomplete, {swept} starts with something to remove")


def test_no_prompt_escapes_from_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "inside" / "generations"
    with ServerProcess("--save_to_disk", "--output_dir", str(folder)) as running, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda prompt: draw(running, text=prompt), ESCAPES))
        assert metrics(running)["dalle_images_saved_total"] == len(ESCAPES)
    saved = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert len(saved) == len(ESCAPES)
    assert all(re.fullmatch(rf"inside/generations/{NAME}/0\.png", path) for path in saved)
