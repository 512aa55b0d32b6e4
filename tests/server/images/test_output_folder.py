from __future__ import annotations

import base64
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from consts import ImageFormat
from dalle_model import DalleModel, DrawingRequest
from server import create_app
from server.config.settings import Settings
from server.images.metadata import read_metadata
from server.images.output_folder import OutputFolder, check_writable, request_folder_name, save_images
from server.operations.metrics import Metrics

NOON = datetime(2026, 5, 4, 12, 30, 5, tzinfo=timezone(timedelta(hours=2)))


def test_a_folder_is_named_for_time_and_prompt() -> None:
    assert re.fullmatch(r"2026-05-04T10-30-05Z_a-red-circle_[0-9a-f]{8}", request_folder_name("A red Circle!", NOON))


@given(st.text(max_size=300))
@example("../../etc/passwd")
@example("/etc/passwd")
@example("C:\\Windows\\System32")
@example("\\\\server\\share")
@example("CON")
@example("nul.txt")
@example("a\0b")
@example("...")
@example("trailing dots. . .")
@example("🦊" * 100)
@example("ŒßıſK" * 50)
@example("x" * 4000)
@example("~root")
@example("$(reboot) `reboot` %PATH% *?<>|:\"'\n\r\t")
def test_no_prompt_leaves_the_folder_or_names_a_device(prompt: str) -> None:
    name = request_folder_name(prompt, NOON)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name)
    assert PurePosixPath(name).parts == PureWindowsPath(name).parts == (name,)
    assert not name.lower().startswith(("con", "prn", "aux", "nul", "com", "lpt"))
    with TemporaryDirectory() as folder:
        saved = save_images([b"image"], "png", prompt, Path(folder))
        assert saved.parent == Path(folder)
        assert [path.relative_to(folder).parts[1:] for path in Path(folder).rglob("*.png")] == [("0.png",)]


def test_many_at_once_each_get_a_folder_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda number: save_images([str(number).encode()] * 3, "png", "same", tmp_path), range(200)))
    assert len(set(folders)) == 200
    for number, folder in enumerate(folders):
        assert sorted(path.name for path in folder.iterdir()) == ["0.png", "1.png", "2.png"]
        assert {path.read_bytes() for path in folder.iterdir()} == {str(number).encode()}


def test_a_save_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="x/y"):
        save_images([b"image"], "x/y", "a prompt", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_made_and_found_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_folder_below_a_file_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        check_writable(tmp_path / "file" / "folder")


def test_what_is_drawn_is_saved_with_how_it_was_drawn(tiny_model: DalleModel, settings: Settings) -> None:
    client = create_app(tiny_model, replace(settings, save_to_disk=True)).test_client()
    answer = client.post("/dalle", json={"text": "a red circle", "num_images": 2, "seed": 41, "temperature": 0.5}).get_json()
    [folder] = settings.output_dir.iterdir()
    assert "_a-red-circle_" in folder.name
    assert sorted(path.name for path in folder.iterdir()) == ["0.jpeg", "1.jpeg"]
    for index in range(2):
        metadata = read_metadata((folder / f"{index}.jpeg").read_bytes())
        assert (metadata.prompt, metadata.seeds, metadata.model) == ("a red circle", (41 + index,), "Tiny")
        assert (metadata.settings.temperature, metadata.settings.top_k) == (0.5, tiny_model.sampling.top_k)
    assert "warnings" not in answer


def test_a_grid_is_saved_with_all_its_seeds(tiny_model: DalleModel, settings: Settings) -> None:
    client = create_app(tiny_model, replace(settings, save_to_disk=True)).test_client()
    client.post("/dalle", json={"text": "a red circle", "num_images": 2, "seed": 41, "grid": True, "img_format": "png"})
    [folder] = settings.output_dir.iterdir()
    assert read_metadata((folder / "0.png").read_bytes()).seeds == (41, 42)


def test_where_saving_fails_the_caller_gets_the_images_and_a_warning(
    tiny_model: DalleModel, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.output_dir.write_text("a file in the folder's place")
    client = create_app(tiny_model, replace(settings, save_to_disk=True)).test_client()
    answer = client.post("/dalle", json={"text": "a red circle"})
    assert answer.status_code == 200
    assert base64.b64decode(answer.get_json()["generatedImgs"][0])
    assert answer.get_json()["warnings"] == ["The images could not be saved on the server's disk; its log says why."]
    assert str(settings.output_dir) in caplog.text
    assert "dalle_save_failures_total 1.0" in client.get("/metrics").text


def test_a_folder_that_is_removed_is_made_again(tiny_model: DalleModel, settings: Settings) -> None:
    client = create_app(tiny_model, replace(settings, save_to_disk=True)).test_client()
    for _ in range(2):
        assert "warnings" not in client.post("/dalle", json={"text": "a red circle", "num_images": 2}).get_json()
        assert len(list(settings.output_dir.rglob("1.jpeg"))) == 1
        shutil.rmtree(settings.output_dir)
    assert "dalle_images_saved_total 4.0" in client.get("/metrics").text


def test_the_bound_on_the_disk_holds_through_the_route(tiny_model: DalleModel, settings: Settings) -> None:
    client = create_app(tiny_model, replace(settings, save_to_disk=True, max_disk_mb=1)).test_client()
    old = settings.output_dir / "2020-01-01T00-00-00Z_old_01234567"
    old.mkdir(parents=True)
    (old / "0.png").write_bytes(bytes(2**20))
    client.post("/dalle", json={"text": "a red circle"})
    [folder] = settings.output_dir.iterdir()
    assert "_a-red-circle_" in folder.name
    assert "dalle_saved_requests_removed_total 1.0" in client.get("/metrics").text


def test_metadata_that_is_too_long_for_the_format_is_a_warning(
    tiny_model: DalleModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """400 long seeds, and 4,000 characters that JSON writes with six each, are more than EXIF holds."""
    seeds = tuple(range(2**63 - 500, 2**63 - 100))
    sheet = [Image.new("RGB", (16, 16))]
    folder = OutputFolder(tmp_path, None, Metrics())
    with tiny_model.start(DrawingRequest("a" + "\u0001" * 3999, seeds)) as long:
        warnings = folder.save(long, sheet, ImageFormat.JPEG)
    assert len(warnings) == 1
    assert "EXIF data is too long" in caplog.text
    assert list(tmp_path.iterdir()) == []
    with tiny_model.start(DrawingRequest("a", seeds)) as short:
        assert folder.save(short, sheet, ImageFormat.JPEG) == []
