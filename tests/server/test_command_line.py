from __future__ import annotations

import re
from pathlib import Path

import pytest

from consts import EXIT_BAD_SETTING, ImageFormat, ModelSize
from server.command_line import build_parser, read_settings, warn_of_unknown_variables
from server.settings import FLAGS, Flag, Settings


def test_without_anything_the_defaults_hold() -> None:
    assert read_settings([], {}) == Settings()


def test_every_flag_is_read() -> None:
    given = {
        "--model_version": "MEGA_FULL",
        "--models_root": "~",
        "--device": "CPU",
        "--precision": "Float32",
        "--max_batch_size": "4",
        "--host": "0.0.0.0",
        "--port": "9",
        "--max_images": "3",
        "--log_level": "DEBUG",
        "--img_format": "webp",
        "--save_to_disk": "yes",
        "--output_dir": "out",
    }
    assert read_settings([word for pair in given.items() for word in pair], {}) == Settings(
        model_version=ModelSize.MEGA_FULL,
        models_root=Path.home(),
        device="cpu",
        precision="float32",
        max_batch_size=4,
        host="0.0.0.0",
        port=9,
        max_images=3,
        log_level="debug",
        img_format=ImageFormat.WEBP,
        save_to_disk=True,
        output_dir=Path("out"),
    )


def test_the_environment_is_read_and_the_command_line_wins() -> None:
    environment = {"DALLE_PORT": "9", "DALLE_SAVE_TO_DISK": "true", "DALLE_MODEL_VERSION": "tiny", "DALLE_HOST": ""}
    settings = read_settings(["--port", "10"], environment)
    assert settings == Settings(port=10, save_to_disk=True, model_version=ModelSize.TINY)


@pytest.mark.parametrize(
    ("arguments", "saves"),
    [([], False), (["--save_to_disk"], True), (["--save_to_disk", "true"], True), (["--save_to_disk=False"], False)],
)
def test_save_to_disk_stands_alone_or_with_a_value(arguments: list[str], saves: bool) -> None:
    assert read_settings(arguments, {}).save_to_disk is saves


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--port", "http"], {}, "--port must be a whole number from 0 to 65535, not 'http'"),
        (["--port", "65536"], {}, "--port must be a whole number from 0 to 65535, not '65536'"),
        (["--model_version", "maxi"], {}, "--model_version must be one of Tiny, Mini, Mega, Mega_full, not 'maxi'"),
        (["--device", "gpu"], {}, "--device must be auto, cpu, cuda, cuda:<number> or mps, not 'gpu'"),
        (["--img_format", "gif"], {}, "--img_format must be one of jpeg, png, webp, not 'gif'"),
        (["--save_to_disk", "maybe"], {}, "--save_to_disk must be true or false, not 'maybe'"),
        (["--max_images", "0"], {}, "--max_images must be a whole number from 1 to 1000, not '0'"),
        (["--host", ""], {}, "--host must not be empty"),
        ([], {"DALLE_MAX_BATCH_SIZE": "many"}, "DALLE_MAX_BATCH_SIZE must be a whole number from 1 to 256, not 'many'"),
        (["--prot", "8000"], {}, "unrecognized arguments: --prot 8000"),
        (["--port"], {}, "argument --port: expected one argument"),
    ],
)
def test_a_bad_setting_is_one_line_and_status_2(
    arguments: list[str], environment: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_settings(arguments, environment)
    assert exit_.value.code == EXIT_BAD_SETTING
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"app.py: {said}")


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_a_default_as_written_is_read_as_the_default(flag: Flag) -> None:
    if flag.default is not None:
        assert flag.parse(flag.default_text) == flag.default


def test_help_names_every_flag_and_its_default() -> None:
    text = re.sub(r"\s+", " ", build_parser().format_help())
    for flag in FLAGS:
        assert f"{flag.option} " in text
        assert flag.default is None or f"(default: {flag.default_text})" in text


def test_a_mistyped_variable_is_logged_with_what_may_be_meant(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_unknown_variables({"DALLE_PROT": "1", "DALLE_PORT": "1", "DALLE_HUB_REPO": "a/b", "HOME": "/"})
    assert [record.getMessage() for record in caplog.records] == [
        "the environment variable DALLE_PROT sets nothing; is DALLE_PORT meant?"
    ]
