from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.images.disk_budget import DiskBudget
from server.images.output_folder import save_files

KIB = 2**10


def request(folder: Path, day: int, kib: int = 4) -> Path:
    """Save a request dated to a day of May. It takes `kib` KiB and 4 KiB for its folder."""
    saved = folder / f"2026-05-{day:02d}T10-30-05Z_a-red-circle_0123abcd"
    saved.mkdir()
    (saved / "0.png").write_bytes(bytes(kib * KIB))
    return saved


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_oldest_are_removed_until_a_tenth_is_free(tmp_path: Path) -> None:
    saved = [request(tmp_path, day) for day in (3, 1, 2, 5, 4)]  # 8 KiB each
    assert DiskBudget(tmp_path, 40 * KIB).make_room([4 * KIB]) == 2
    assert names(tmp_path) == sorted(path.name for path in (saved[0], saved[3], saved[4]))


def test_nothing_is_removed_while_there_is_room(tmp_path: Path) -> None:
    request(tmp_path, 1)
    budget = DiskBudget(tmp_path, 24 * KIB)
    assert [budget.make_room([1]), budget.make_room([4 * KIB])] == [0, 0]
    assert len(names(tmp_path)) == 1


def test_requests_that_others_removed_do_not_count(tmp_path: Path) -> None:
    budget = DiskBudget(tmp_path, 16 * KIB)
    assert [budget.make_room([1]) for _ in range(9)] == [0] * 9  # none of them was ever written


def test_a_request_above_the_limit_is_refused_and_nothing_is_removed(tmp_path: Path) -> None:
    request(tmp_path, 1)
    with pytest.raises(OSError, match="--max_disk_mb") as refused:
        DiskBudget(tmp_path, 16 * KIB).make_room([16 * KIB])
    assert refused.value.errno == errno.EFBIG
    assert len(names(tmp_path)) == 1


def test_folders_with_other_names_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    dated = ("2026-05-04", "2026-05-04T10-30-05Z_UPPER_0123abcd", "2026-05-04T10-30-05Z_a_0123abcd.bak")
    for name in ("holiday", ".hidden", *dated):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(bytes(64 * KIB))
    (tmp_path / "2026-05-04T10-30-05Z_a_0123abcd").write_bytes(bytes(64 * KIB))  # a file
    before = names(tmp_path)
    assert DiskBudget(tmp_path, 16 * KIB).make_room([1]) == 0
    assert names(tmp_path) == before


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    folder.mkdir()
    (elsewhere / "mine").write_bytes(bytes(64 * KIB))
    (folder / "2026-05-01T10-30-05Z_a-link_0123abcd").symlink_to(elsewhere, target_is_directory=True)
    inside = request(folder, 2, kib=12)
    (inside / "link").symlink_to(elsewhere, target_is_directory=True)
    assert DiskBudget(folder, 16 * KIB).make_room([1]) == 1
    assert names(folder) == ["2026-05-01T10-30-05Z_a-link_0123abcd"]
    assert (elsewhere / "mine").exists()


def test_the_folder_stays_below_the_limit_with_many_requests_at_once(tmp_path: Path) -> None:
    limit = 400 * KIB
    budget = DiskBudget(tmp_path, limit)

    def save(number: int) -> int:
        removed = budget.make_room([5000, 3000])
        save_files({"0.png": bytes(5000), "1.png": bytes(3000)}, str(number), tmp_path)
        return removed

    with ThreadPoolExecutor(8) as pool:
        removed = sum(pool.map(save, range(100)))
    kept = names(tmp_path)
    used = sum(path.lstat().st_blocks * 512 for path in tmp_path.glob("*/*"))
    assert removed + len(kept) == 100
    assert 0.5 * limit < used <= limit


def test_nothing_is_saved_if_the_oldest_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = request(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "not yours")))
        with pytest.raises(OSError, match="can't be removed") as refused:
            DiskBudget(tmp_path, 12 * KIB).make_room([4 * KIB])
    assert refused.value.errno == errno.ENOSPC and saved.exists()
    assert DiskBudget(tmp_path, 12 * KIB).make_room([4 * KIB]) == 1
