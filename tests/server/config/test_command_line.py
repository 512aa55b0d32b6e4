from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from consts import EXIT_BAD_SETTING, ImageFormat, ModelSize
from server.config.command_line import build_parser, read_settings, warn_of_unknown_variables
from server.config.settings import FLAGS, Flag, Settings


def test_every_flag_is_read(tmp_path: Path) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text("# of the bot\nthird-key\n\n  fourth-key  \n")
    origins = ("https://play.example", "http://localhost:3000", "null")
    values: dict[str, tuple[str, Any]] = {
        "model_version": ("MEGA_FULL", ModelSize.MEGA_FULL),
        "models_root": ("~", Path.home()),
        "device": ("CPU", "cpu"),
        "runner": ("Torch", "torch"),
        "precision": ("Float32", "float32"),
        "threads": ("3", 3),
        "cache_dir": ("cache", Path("cache")),
        "max_batch_size": ("4", 4),
        "max_batch_per_caller": ("2", 2),
        "host": ("127.0.0.1, ::1", ("127.0.0.1", "::1")),
        "port": ("9", 9),
        "max_images": ("3", 3),
        "max_queue": ("0", 0),
        "max_queue_per_caller": ("1", 1),
        "rate_limit": (" 30 per minute; 500/day ", "30 per minute; 500/day"),
        "rate_limit_storage": ("redis://:password@localhost:6379", "redis://:password@localhost:6379"),
        "request_timeout": ("5", 5),
        "step_timeout": ("6", 6),
        "drain_timeout": ("0", 0),
        "replicas": (" Auto", "auto"),
        "max_replicas": ("7", 7),
        "ray_address": ("10.0.0.1:6379", "10.0.0.1:6379"),
        "api_key": ("first-key,second-key", ("first-key", "second-key")),
        "api_key_file": (str(key_file), ("third-key", "fourth-key")),
        "open_metrics": ("false", False),
        "cors_origins": ("https://Play.example, http://localhost:3000,null", origins),
        "log_level": ("DEBUG", "debug"),
        "log_format": ("JSON", "json"),
        "log_prompts": ("true", True),
        "img_format": ("webp", ImageFormat.WEBP),
        "save_to_disk": ("yes", True),
        "output_dir": ("out", Path("out")),
        "max_disk_mb": ("100", 100),
        "public_url": ("https://images.example.org/", "https://images.example.org"),
        "trust_proxy": ("1", True),
        "url_ttl": ("60", 60),
    }
    assert values.keys() == {flag.name for flag in FLAGS}
    arguments = [word for name, (text, _) in values.items() for word in (f"--{name}", text)]
    assert read_settings(arguments, {}) == Settings(**{name: value for name, (_, value) in values.items()})


def test_the_environment_is_read_and_the_command_line_wins() -> None:
    environment = {"DALLE_PORT": "9", "DALLE_SAVE_TO_DISK": "true", "DALLE_MODEL_VERSION": "tiny", "DALLE_HOST": ""}
    settings = read_settings(["--port", "10"], environment)
    assert settings == Settings(port=10, save_to_disk=True, model_version=ModelSize.TINY)


def test_the_port_is_not_where_kubernetes_says_that_a_service_named_dalle_is() -> None:
    assert read_settings([], {"DALLE_PORT": "tcp://10.96.0.12:8000"}).port == Settings().port
    assert read_settings([], {"DALLE_PORT": "tcp://10.96.0.12:8000", "PORT": "9"}).port == 9


@pytest.mark.parametrize(
    ("arguments", "saves"),
    [([], False), (["--save_to_disk"], True), (["--save_to_disk", "true"], True), (["--save_to_disk=False"], False)],
)
def test_save_to_disk_needs_no_value(arguments: list[str], saves: bool) -> None:
    assert read_settings(arguments, {}).save_to_disk is saves


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--port", "http"], {}, "--port must be a whole number from 0 to 65535, not 'http'"),
        (["--rate_limit", "often"], {}, "--rate_limit must be a count per second, minute, hour or day, such as 30 per minute"),
        (["--rate_limit", "0 per hour"], {}, "--rate_limit must be a count per second, minute, hour or day, such as 30 per"),
        (["--rate_limit_storage", "redis"], {}, "--rate_limit_storage must be memory://, redis://host:port, rediss://"),
        (["--port", "65536"], {}, "--port must be a whole number from 0 to 65535, not '65536'"),
        (["--model_version", "maxi"], {}, "--model_version must be one of Tiny, Mini, Mega, Mega_full, not 'maxi'"),
        (["--device", "gpu"], {}, "--device must be auto, cpu, cuda, cuda:<number> or mps, not 'gpu'"),
        (["--img_format", "gif"], {}, "--img_format must be one of jpeg, png, webp, not 'gif'"),
        (["--save_to_disk", "maybe"], {}, "--save_to_disk must be true or false, not 'maybe'"),
        (["--max_images", "0"], {}, "--max_images must be a whole number from 1 to 1000, not '0'"),
        (["--host", ""], {}, "--host must be addresses separated by commas, none of them empty, not ''"),
        ([], {"DALLE_HOST": "::1,"}, "DALLE_HOST must be addresses separated by commas, none of them empty, not '::1,'"),
        (
            ["--output_dir", "~nobody-of-that-name/x"],
            {},
            "--output_dir must be a path whose ~ is an existing home folder",
        ),
        (["--max_queue", "10001"], {}, "--max_queue must be a whole number from 0 to 10000, not '10001'"),
        ([], {"DALLE_MAX_BATCH_SIZE": "many"}, "DALLE_MAX_BATCH_SIZE must be a whole number from 1 to 256, not 'many'"),
        (["--prot", "8000"], {}, "unrecognized arguments: --prot ...; is --port meant?"),
        (["--log_format", "xml"], {}, "--log_format must be one of text, json, not 'xml'"),
        (["--cors_origins", "play.example"], {}, "--cors_origins must be *, none, or origins such as https://play.example"),
        (["--cors_origins", "https://play.example/"], {}, "--cors_origins must be *, none, or origins such as"),
        (["--cors_origins", "*,https://play.example"], {}, "--cors_origins must be *, none, or origins such as"),
        (["--max_disk_mb", "0"], {}, "--max_disk_mb must be a whole number from 1 to 1000000000, not '0'"),
        (["--api_key_file", "/nowhere/keys"], {}, "--api_key_file must be a file that can be read (No such file or directory)"),
        (["--port"], {}, "argument --port: expected one argument"),
    ],
)
def test_a_bad_setting_is_one_line_and_status_2(
    arguments: list[str], environment: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_settings(arguments, environment)
    assert exit_.value.code == EXIT_BAD_SETTING
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"app.py: {message}")


def test_repeated_hosts_add_up() -> None:
    settings = read_settings(["--host", "localhost,10.0.0.1", "--host", "10.0.0.2"], {"DALLE_HOST": "passed-over"})
    assert settings.host == ("localhost", "10.0.0.1", "10.0.0.2")


def test_repeated_api_key_options_add_up() -> None:
    settings = read_settings(["--api_key", "first-key", "--api_key", "second-key,third-key"], {"DALLE_API_KEY": "passed-over"})
    assert settings.api_keys == ("first-key", "second-key", "third-key")


def test_none_is_an_empty_list_of_origins() -> None:
    assert read_settings(["--cors_origins", "none"], {}).cors_origins == ()


SECRET = "hush hush"  # not a valid key, because of the space


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--api_key", SECRET], {}),
        (["--api_key", f"first-key,{SECRET}"], {}),
        ([], {"DALLE_API_KEY": SECRET}),
        (["--api_keys", SECRET], {}),
        ([f"--api-key={SECRET}"], {}),
        (["--api_key", "first-key", SECRET], {}),
        (["--api_key_file", SECRET], {}),
        (["--rate_limit_storage", f"mongodb://:{SECRET}@host"], {}),
    ],
)
def test_the_error_about_an_invalid_key_does_not_reveal_it(
    arguments: list[str], environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read_settings(arguments, environment)
    error = capsys.readouterr().err
    assert error.startswith("app.py: ")
    assert "hush" not in error


@pytest.mark.parametrize("empty", ["", " ", "\t\n"])
@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag.is_secret], ids=lambda flag: flag.name)
def test_an_empty_secret_is_an_error(flag: Flag, empty: str, capsys: pytest.CaptureFixture[str]) -> None:
    for source, arguments, environment in ((flag.option, [flag.option, empty], {}), (flag.variable, [], {flag.variable: empty})):
        with pytest.raises(SystemExit) as exit_:
            read_settings(arguments, environment)
        assert exit_.value.code == EXIT_BAD_SETTING
        message = f"app.py: {source} is empty: set a value, or leave it out; see python app.py --help"
        assert capsys.readouterr().err == f"{message}\n"


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if not flag.is_secret], ids=lambda flag: flag.name)
def test_any_other_empty_variable_counts_as_unset(flag: Flag) -> None:
    assert read_settings([], {flag.variable: ""}) == Settings()


@pytest.mark.parametrize(
    "content", [b"", b"\n \n\t\n", b"# only a remark\n", b"short\n", b"first-key\nsecond, key\n", b"\xff\xfe12345678\n"]
)
def test_a_file_without_a_valid_key_is_refused(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(SystemExit):
        read_settings(["--api_key_file", str(tmp_path / "keys")], {})
    assert capsys.readouterr().err.startswith("app.py: --api_key_file must be a file with at least one key, one per line")


def test_the_text_form_of_settings_has_no_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("hush-of-file")
    settings = read_settings(["--api_key", "hush-of-line", "--api_key_file", str(tmp_path / "keys")], {})
    assert settings.api_keys == ("hush-of-line", "hush-of-file")
    assert "hush" not in repr(settings)


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_the_text_form_of_a_default_is_parsed_to_the_default(flag: Flag) -> None:
    if flag.default_text != "none":
        assert flag.parse(flag.default_text) == flag.default


def test_help_names_every_flag_and_its_default() -> None:
    text = re.sub(r"\s+", " ", build_parser().format_help())
    for flag in FLAGS:
        assert f"{flag.option} " in text
        assert flag.default_text == "none" or f"(default: {flag.default_text})" in text


def test_a_mistyped_variable_is_logged_with_a_suggestion(caplog: pytest.LogCaptureFixture) -> None:
    right = {"DALLE_PORT": "1", "DALLE_HUB_REPO": "a/b", "DALLE_INSTRUCTION_SET": "avx2"}
    by_kubernetes = {
        "DALLE_SERVICE_HOST": "",
        "DALLE_SERVICE_PORT_HTTP": "",
        "DALLE_PORT_80_TCP": "",
        "DALLE_PORT_80_TCP_ADDR": "",
    }
    warn_of_unknown_variables({"DALLE_PROT": "1", "DALLE_MODEL": "mini"} | right | by_kubernetes)
    assert [record.getMessage() for record in caplog.records] == [
        "the environment variable DALLE_MODEL sets nothing; is DALLE_MODEL_VERSION meant?",
        "the environment variable DALLE_PROT sets nothing; is DALLE_PORT meant?",
    ]
