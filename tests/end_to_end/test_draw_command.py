"""`python -m dalle_model` as a process, as a user runs it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from consts import EXIT_BAD_CHECKPOINT, EXIT_BAD_SETTING, EXIT_INTERRUPTED, EXIT_OK
from dalle_model import DalleModel
from tests.end_to_end.server_process import MODELS_ROOT, ROOT, environment
from utils import encode_image, make_grid, parse_image_format

DRAWING_SECONDS = 240


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dalle_model", "--models_root", str(MODELS_ROOT), *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=DRAWING_SECONDS
    )


def test_images_are_saved_at_the_printed_paths_and_are_those_of_their_seeds(tmp_path: Path, tiny_model: DalleModel) -> None:
    drawn = run("A red circle!", "--num_images", "3", "--seed", "7", "--output_dir", str(tmp_path / "out"), "--format", "png")
    assert drawn.returncode == EXIT_OK, drawn.stderr
    paths = [Path(line) for line in drawn.stdout.splitlines()]
    assert sorted(path.name for path in paths) == [f"a-red-circle-{seed}.png" for seed in (7, 8, 9)]
    assert {path.parent for path in paths} == {tmp_path / "out"}
    expected = tiny_model.generate_images("A red circle!", 3, seed=7)
    for path, image in zip(sorted(paths), expected, strict=True):
        with Image.open(path) as saved:
            assert saved.tobytes() == image.tobytes()


def test_a_grid_with_settings_does_not_overwrite_an_existing_file(tmp_path: Path, tiny_model: DalleModel) -> None:
    existing = tmp_path / "two-yellow-hearts-1-grid.webp"
    existing.write_text("another's")
    settings = ["--temperature", "0.5", "--top_k", "32", "--supercondition_factor", "2", "--model_version", "TINY"]
    arguments = ["--num_images", "3", "--seed", "1", "--grid", "--format", "WebP", "--output_dir", str(tmp_path), *settings]
    drawn = run("two yellow hearts", *arguments)
    assert drawn.returncode == EXIT_OK, drawn.stderr
    assert drawn.stdout == f"{tmp_path / 'two-yellow-hearts-1-grid-2.webp'}\n"
    assert existing.read_text() == "another's"
    images = tiny_model.generate_images("two yellow hearts", 3, seed=1, temperature=0.5, top_k=32, supercondition_factor=2)
    grid = encode_image(make_grid(images), parse_image_format("webp"))
    assert (tmp_path / "two-yellow-hearts-1-grid-2.webp").read_bytes() == grid


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: PROMPT"),
        ([" "], "argument PROMPT: must not be empty"),
        (["x" * 4001], "argument PROMPT: must have at most 4000 characters, not 4001 characters"),
        (["x", "--num_images", "0"], "argument --num_images: must be a whole number from 1 to 1000, not '0'"),
        (["x", "--seed", "-2"], "argument --seed: must be a whole number from -1 to 9223372036854775807, not '-2'"),
        (["x", "--format", "gif"], "argument --format: must be one of jpeg, png, webp, not 'gif'"),
        (["x", "--output_dir", "README.md/out"], "can't write to README.md/out"),
    ],
)
def test_an_invalid_argument_is_an_error_of_one_line(arguments: list[str], message: str) -> None:
    assert_refused(run(*arguments), EXIT_BAD_SETTING, message)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_all_images_are_drawn_although_stdout_is_closed(tmp_path: Path) -> None:
    with start("a red circle", "--num_images", "3", "--output_dir", str(tmp_path)) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == EXIT_OK, errors
    assert "Traceback" not in errors and "can't write" not in errors
    assert len(list(tmp_path.iterdir())) == 3


def test_a_missing_device_is_an_error_of_one_line(tmp_path: Path) -> None:
    refused = run("x", "--device", "cuda:99", "--output_dir", str(tmp_path))
    assert refused.returncode == EXIT_BAD_SETTING
    assert refused.stderr.splitlines()[-1].startswith("python -m dalle_model: ")
    assert "Traceback" not in refused.stderr


def test_missing_weights_are_an_error_of_one_line(tmp_path: Path) -> None:
    refused = run("x", "--model_version", "Mini", "--models_root", str(tmp_path), "--output_dir", str(tmp_path))
    assert refused.returncode == EXIT_BAD_CHECKPOINT
    assert refused.stderr.splitlines()[-1].startswith("python -m dalle_model: ")
    assert "Traceback" not in refused.stderr


def test_an_interrupt_stops_it_and_keeps_finished_images(tmp_path: Path) -> None:
    # Of 200 images 32 are drawn at once: some are saved while most are still waiting.
    with start("a red circle", "--num_images", "200", "--output_dir", str(tmp_path)) as process:
        assert process.stdout is not None and process.stderr is not None
        first = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == EXIT_INTERRUPTED
    assert errors.splitlines()[-1] == "python -m dalle_model: stopped"
    assert "Traceback" not in errors
    assert {first, *map(Path, rest.splitlines())} <= set(tmp_path.iterdir())
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            image.load()


def assert_refused(refused: subprocess.CompletedProcess[str], status: int, message: str) -> None:
    assert refused.returncode == status
    [line] = refused.stderr.splitlines()
    assert line.startswith(f"python -m dalle_model: {message}")
    assert refused.stdout == ""


def test_words_that_the_model_does_not_know_are_told(tmp_path: Path) -> None:
    shutil.copytree(MODELS_ROOT / "tiny", tmp_path / "tiny")
    (tmp_path / "tiny" / "known_words.json").write_text(json.dumps({"things": {"cat": []}}))
    drawn = run("a xylophone", "--models_root", str(tmp_path), "--output_dir", str(tmp_path / "out"))
    assert drawn.returncode == EXIT_OK, drawn.stderr
    assert 'Tiny does not know "xylophone". It draws 1 things, such as cat' in drawn.stderr
    assert len(drawn.stdout.splitlines()) == 1
