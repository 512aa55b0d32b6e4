from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from consts import ImageFormat
from dalle_model import DalleModel, Drawing, DrawingRequest, Event, ImageDone
from server.config.settings import Settings
from server.images.metadata import read_metadata
from server.images.output_folder import OutputFolder, check_writable, request_folder_name, save_files
from server.operations.metrics import Metrics
from tests.conftest import MakeClient
from tests.decoding import open_base64

NOON = datetime(2026, 5, 4, 12, 30, 5, tzinfo=timezone(timedelta(hours=2)))


def test_a_folders_name_has_the_time_and_the_prompt() -> None:
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
    assert re.fullmatch(r"[\w-]+", name, flags=re.UNICODE) or not name.isascii()
    assert len(name.encode()) <= 100 and not set(name) & set('<>:"/\\|?*. ')
    assert PurePosixPath(name).parts == PureWindowsPath(name).parts == (name,)
    assert not name.lower().startswith(("con", "prn", "aux", "nul", "com", "lpt"))
    with TemporaryDirectory() as folder:
        saved = save_files({"0.png": b"image"}, prompt, Path(folder))
        assert saved.parent == Path(folder)
        assert [path.relative_to(folder).parts[1:] for path in Path(folder).rglob("*.png")] == [("0.png",)]


def test_each_of_many_requests_at_once_gets_its_own_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(
            pool.map(
                lambda number: save_files(dict.fromkeys(("0.png", "1.png", "2.png"), str(number).encode()), "same", tmp_path),
                range(200),
            )
        )
    assert len(set(folders)) == 200
    for number, folder in enumerate(folders):
        assert sorted(path.name for path in folder.iterdir()) == ["0.png", "1.png", "2.png"]
        assert {path.read_bytes() for path in folder.iterdir()} == {str(number).encode()}


def test_a_save_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="x/y"):
        save_files({"x/y": b"image"}, "a prompt", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_created_and_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_images_are_saved_with_their_metadata(make_client: MakeClient, tiny_model: DalleModel, settings: Settings) -> None:
    body = {"text": "a red circle", "num_images": 2, "seed": 41, "temperature": 0.5}
    answer = make_client(save_to_disk=True).post("/dalle", json=body).get_json()
    [folder] = settings.output_dir.iterdir()
    assert "_a-red-circle_" in folder.name
    assert sorted(path.name for path in folder.iterdir()) == ["0.jpeg", "1.jpeg"]
    for index in range(2):
        metadata = read_metadata((folder / f"{index}.jpeg").read_bytes())
        assert (metadata.prompt, metadata.seeds, metadata.model) == ("a red circle", (41 + index,), "Tiny")
        assert (metadata.settings.temperature, metadata.settings.top_k) == (0.5, tiny_model.sampling.top_k)
    assert "warnings" not in answer


def test_a_grid_is_saved_with_all_its_seeds(make_client: MakeClient, settings: Settings) -> None:
    body = {"text": "a red circle", "num_images": 2, "seed": 41, "grid": True, "img_format": "png"}
    make_client(save_to_disk=True).post("/dalle", json=body)
    [folder] = settings.output_dir.iterdir()
    assert {path.name: read_metadata(path.read_bytes()).seeds for path in folder.iterdir()} == {
        "0.png": (41,),
        "1.png": (42,),
        "grid.png": (41, 42),
    }


def test_if_saving_fails_the_answer_has_the_images_and_a_warning(
    make_client: MakeClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.output_dir.write_text("a file in the folder's place")
    client = make_client(save_to_disk=True)
    answer = client.post("/dalle", json={"text": "a red circle"})
    assert answer.status_code == 200
    assert open_base64(answer.get_json()["generatedImgs"][0]).size == (256, 256)
    assert answer.get_json()["warnings"] == ["The images could not be saved on the server's disk; its log says why."]
    assert str(settings.output_dir) in caplog.text
    assert "dalle_save_failures_total 1.0" in client.get("/metrics").text


def test_a_removed_folder_is_created_again(make_client: MakeClient, settings: Settings) -> None:
    client = make_client(save_to_disk=True)
    for _ in range(2):
        assert "warnings" not in client.post("/dalle", json={"text": "a red circle", "num_images": 2}).get_json()
        assert len(list(settings.output_dir.rglob("1.jpeg"))) == 1
        shutil.rmtree(settings.output_dir)
    assert "dalle_images_saved_total 4.0" in client.get("/metrics").text


class DrawnJob:
    """An engine's side of a drawing that is done at once: one picture."""

    def events(self, tick: float | None = None, *, progress: bool = True) -> Iterator[Event]:
        yield ImageDone(0, 0, Image.new("RGB", (16, 16)))


def test_metadata_too_long_for_the_format_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """EXIF has no room for 400 long seeds and 4,000 characters that JSON writes with six each."""
    seeds = tuple(range(2**63 - 500, 2**63 - 100))
    folder = OutputFolder(tmp_path, None, Metrics())
    for prompt, warning_count in (("a" + "\u0001" * 3999, 1), ("a", 0)):
        drawing = Drawing(DrawingRequest(prompt, seeds, seamless=True), "Tiny", DrawnJob(), lambda: None)
        drawing.result()
        assert len(folder.save(drawing, ImageFormat.JPEG)) == warning_count
        assert len(list(tmp_path.iterdir())) == 1 - warning_count
    assert "EXIF data is too long" in caplog.text
