"""Disk failures while the server saves: the client receives the images all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.end_to_end.callers import TIMEOUT_SECONDS, eventually, post
from tests.end_to_end.server_process import ServerProcess
from tests.faults.calling import images_in, metrics

WARNING = "The images could not be saved on the server's disk; its log says why."


def run_mount(*arguments: str) -> None:
    run = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if run.returncode != 0:
        pytest.skip(f"file systems can't be mounted here: {run.stderr.strip()}")


@contextmanager
def mounted_small_disk(disk: Path) -> Iterator[Path]:
    """Mount a disk of 256 KiB."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs Linux and root")
    disk.mkdir()
    run_mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk))
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture(scope="module")
def shared_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount the disk of the server `saving`. A test leaves nothing on it but saved images of its own."""
    with mounted_small_disk(tmp_path_factory.mktemp("shared") / "disk") as disk:
        yield disk


@pytest.fixture(scope="module")
def saving(shared_disk: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--save_to_disk", "--output_dir", str(shared_disk / "generations")) as running:
        yield running


def assert_drawn(saving: ServerProcess, reason: str | None) -> None:
    """Draw an image; with a `reason`, expect a warning, a line in the log and a failure more, otherwise none of them."""
    failures = metrics(saving)["dalle_save_failures_total"]
    answer = post(saving, text="a red circle")
    assert answer.status_code == 200
    assert len(images_in(answer)) == 1
    assert answer.json().get("warnings") == (None if reason is None else [WARNING])
    assert metrics(saving)["dalle_save_failures_total"] == failures + (reason is not None)
    if reason is not None:
        assert eventually(lambda: any("could not be saved" in line and reason in line for line in saving.log))


def test_a_full_disk(saving: ServerProcess, shared_disk: Path) -> None:
    assert_drawn(saving, None)
    filler = shared_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(2**20))
    assert_drawn(saving, "No space left on device")
    assert_drawn(saving, "No space left on device")
    assert not list(shared_disk.glob("generations/.unfinished-*"))
    filler.unlink()
    assert_drawn(saving, None)


def test_a_full_temporary_folder(small_disk: Path) -> None:
    """Tens of kilobytes are free, enough for the start; large responses and bodies must not need the folder."""
    (small_disk / "filler").write_bytes(bytes(200 * 2**10))
    with ServerProcess(TMPDIR=str(small_disk)) as running:
        large = {"prompt": "a red circle", "user": "u" * 900_000, "n": 4, "size": "2048x2048", "output_format": "jpeg"}
        answer = requests.post(f"{running.url}/v1/images/generations", json=large, timeout=TIMEOUT_SECONDS)
        assert answer.status_code == 200, answer.text
        assert len(answer.content) > 2**20
        assert len(answer.json()["data"]) == 4


def test_a_read_only_disk(saving: ServerProcess, shared_disk: Path) -> None:
    assert_drawn(saving, None)
    run_mount("-o", "remount,ro", str(shared_disk))
    assert_drawn(saving, "Read-only file system")
    run_mount("-o", "remount,rw", str(shared_disk))
    assert_drawn(saving, None)


def test_a_removed_folder(saving: ServerProcess, shared_disk: Path) -> None:
    shutil.rmtree(shared_disk / "generations")
    assert_drawn(saving, None)
    assert len(list(shared_disk.glob("generations/*/0.jpeg"))) == 1
    shutil.rmtree(shared_disk / "generations")
    in_the_way = shared_disk / "generations"
    in_the_way.write_text("a file in place of the folder")
    assert_drawn(saving, "Not a directory")
    in_the_way.unlink()


def test_a_bound_below_the_disks_size_keeps_saving(tmp_path: Path) -> None:
    folder = tmp_path / "generations"
    old = folder / "2020-01-01T00-00-00Z_old_01234567"
    old.mkdir(parents=True)
    (old / "0.png").write_bytes(bytes(2**20))
    with ServerProcess("--save_to_disk", "--output_dir", str(folder), "--max_disk_mb", "1") as running:
        assert_drawn(running, None)
        assert metrics(running)["dalle_saved_requests_removed_total"] == 1
    assert not old.exists()


class UnprivilegedServer(ServerProcess):
    """A running server that file permissions apply to, even if root runs it."""

    run_by = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


@pytest.mark.skipif(sys.platform != "linux", reason="drops root's capabilities, which only Linux has")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    folder = tmp_path / "generations"
    with UnprivilegedServer("--save_to_disk", "--output_dir", str(folder)) as running:
        folder.chmod(0o500)
        assert_drawn(running, "Permission denied")
        folder.chmod(0o700)
        assert_drawn(running, None)
