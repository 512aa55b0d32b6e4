from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import host.unfinished
from host.unfinished import sweep_unfinished, temporary_path, unfinished_folder
from server.images.output_folder import save_files

OLD_NAME = ".unfinished-2026-05-04T10-30-05Z_a-red-circle_0123abcd"  # an older version's


def abandoned(parent: Path, name: str | None = None) -> Path:
    folder = temporary_path(parent) if name is None else parent / name
    folder.mkdir()
    (folder / "0.png").write_bytes(b"half an im")
    return folder


def test_abandoned_folders_are_swept(tmp_path: Path) -> None:
    abandoned(tmp_path)
    abandoned(tmp_path, OLD_NAME)
    whole = save_files({"0.png": b"image"}, "a prompt", tmp_path)
    assert sweep_unfinished(tmp_path) == 2
    assert list(tmp_path.iterdir()) == [whole]


def test_a_folder_that_is_being_filled_stays(tmp_path: Path) -> None:
    with unfinished_folder(tmp_path) as folder:
        assert sweep_unfinished(tmp_path) == 0
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_another_process_keeps_its_folder_until_it_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from host.unfinished import unfinished_folder\n"
        "with unfinished_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / '0.png').write_bytes(b'half an im'); print(folder, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as filling:
        assert filling.stdout is not None
        folder = Path(filling.stdout.readline().strip())
        assert sweep_unfinished(tmp_path) == 0
        assert folder.is_dir()
        filling.kill()
    assert sweep_unfinished(tmp_path) == 1
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", [".unfinished-", ".unfinished-notes", "unfinished-0123456789abcdef", ".unfinished-0123456789abcdeg"]
)
def test_folders_of_other_names_stay(tmp_path: Path, name: str) -> None:
    abandoned(tmp_path, name)
    assert sweep_unfinished(tmp_path) == 0
    assert (tmp_path / name / "0.png").exists()


def test_an_empty_folder_is_swept_but_not_counted(tmp_path: Path) -> None:
    """It may be new and not locked yet; its process then makes another."""
    temporary_path(tmp_path).mkdir()
    assert sweep_unfinished(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("precious")
    (tmp_path / "out").mkdir()
    temporary_path(tmp_path / "out").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (abandoned(tmp_path / "out") / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert sweep_unfinished(tmp_path / "out") == 1
    assert (tmp_path / "elsewhere" / "mine").read_text() == "precious"


def test_without_locks_folders_are_swept_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where `fcntl` cannot be imported."""
    monkeypatch.setattr(host.unfinished, "fcntl", None)
    fresh, old = abandoned(tmp_path), abandoned(tmp_path)
    os.utime(old, (time.time() - 90_000,) * 2)
    assert sweep_unfinished(tmp_path) == 1
    assert fresh.is_dir()
    assert save_files({"0.png": b"image"}, "a prompt", tmp_path).is_dir()


def test_saving_and_sweeping_at_once_loses_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        sweeps = [pool.submit(lambda: [sweep_unfinished(tmp_path) for _ in range(200)]) for _ in range(2)]
        folders = list(
            pool.map(lambda number: save_files({"0.png": b"image", "1.png": b"image"}, str(number), tmp_path), range(150))
        )
    assert not any(any(sweep.result()) for sweep in sweeps)
    assert len(folders) == 150
    assert all(sorted(path.name for path in folder.iterdir()) == ["0.png", "1.png"] for folder in folders)
