"""Hold the server's settings: one frozen dataclass, whose fields are also the one table of flags.

The parser, the environment's names and the test of README's table are all derived from `FLAGS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from consts import LOG_FORMATS, LOG_LEVELS, PRECISIONS, RUNNERS, ImageFormat, ModelSize
from utils import (
    integer_between,
    member_of,
    one_of,
    parse_api_key_file,
    parse_api_keys,
    parse_base_url,
    parse_boolean,
    parse_device,
    parse_image_format,
    parse_origins,
    parse_path,
    parse_text,
)


@dataclass(frozen=True)
class Flag:
    """Describe one setting: how it is given, read and explained."""

    name: str  # of the field in Settings
    default: Any
    group: str
    help: str
    parse: Callable[[str], Any]  # raises ValueError with what is accepted: "must be ..."
    metavar: str
    bare: str | None = None  # what the option means when it is given without a value
    is_secret: bool = False  # its value is shown nowhere, and an empty one is a mistake
    may_repeat: bool = False  # given several times, the values are joined by commas

    @property
    def option(self) -> str:
        """Name the command line's option."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """Name the environment variable."""
        return f"DALLE_{self.name.upper()}"

    @property
    def default_text(self) -> str:
        """Write the default as one would type it."""
        if self.default is None or self.default == ():
            return "none"
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        if isinstance(self.default, ImageFormat):
            return self.default.name
        if isinstance(self.default, ModelSize):
            return self.default.value
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default)


def _flag(
    default: Any, group: str, help: str, parse: Callable[[str], Any], metavar: str, bare: str | None = None, **more: bool
) -> Any:
    described = {"group": group, "help": help, "parse": parse, "metavar": metavar, "bare": bare, **more}
    return field(default=default, repr=not more.get("is_secret", False), metadata=described)


_SECONDS = integer_between(1, 86_400)
_MODEL, _SERVER, _CALLERS = "the model", "the server", "who may call"
_LOG, _IMAGES, _LINKS = "the log", "the images", "links to images"


@dataclass(frozen=True)
class Settings:
    """Hold every setting; where one is not given, the default."""

    model_version: ModelSize = _flag(
        ModelSize.MINI, _MODEL, "which model draws: Tiny (built in), Mini, Mega or Mega_full", member_of(ModelSize), "NAME"
    )
    models_root: Path | None = _flag(
        None, _MODEL, "folder with weights you already have, laid out as min-dalle's models_root", parse_path, "FOLDER"
    )
    device: str = _flag("auto", _MODEL, "where to compute: auto, cpu, cuda, cuda:<number> or mps", parse_device, "NAME")
    runner: str = _flag("auto", _MODEL, f"what computes: {', '.join(RUNNERS)}", one_of(RUNNERS), "NAME")
    precision: str = _flag("auto", _MODEL, f"how numbers are kept: {', '.join(PRECISIONS)}", one_of(PRECISIONS), "NAME")
    threads: int = _flag(
        0, _MODEL, "threads to compute with on a CPU; 0 takes all that the container allows", integer_between(0, 1024), "COUNT"
    )
    cache_dir: Path | None = _flag(
        None, _MODEL, "folder for converted models, 0.8 GB for Mini; by default in the user's cache folder", parse_path, "FOLDER"
    )
    max_batch_size: int = _flag(32, _MODEL, "how many images are drawn at once at most", integer_between(1, 256), "COUNT")

    host: str = _flag(
        "127.0.0.1", _SERVER, "address to listen on; 0.0.0.0 opens the server to the network", parse_text, "ADDRESS"
    )
    port: int = _flag(8000, _SERVER, "port to listen on; 0 takes any free one", integer_between(0, 65535), "NUMBER")
    max_images: int = _flag(10, _SERVER, "how many images one request may ask for", integer_between(1, 1000), "COUNT")

    max_queue: int = _flag(
        64, _SERVER, "how many images may wait; who asks for more is told when to ask again", integer_between(0, 10_000), "COUNT"
    )
    request_timeout: int = _flag(600, _SERVER, "seconds that a request may take, waiting included", _SECONDS, "SECONDS")
    step_timeout: int = _flag(
        60,
        _SERVER,
        "seconds after which a step is taken to hang, and /health/live says so; after five times as many the process ends",
        _SECONDS,
        "SECONDS",
    )
    drain_timeout: int = _flag(
        60,
        _SERVER,
        "seconds in which accepted images are finished before the server stops",
        integer_between(0, 86_400),
        "SECONDS",
    )

    api_key: tuple[str, ...] = _flag(
        (),
        _CALLERS,
        "who draws must show one of these keys; others see a command line in ps, so use the environment or --api_key_file",
        parse_api_keys,
        "KEY,...",
        is_secret=True,
        may_repeat=True,
    )
    api_key_file: tuple[str, ...] = _flag(
        (), _CALLERS, "file with such keys, one a line; read at start", parse_api_key_file, "FILE", is_secret=True
    )
    open_metrics: bool = _flag(
        True, _CALLERS, "answer GET /metrics without a key, even where drawing needs one", parse_boolean, "true|false", "true"
    )
    cors_origins: tuple[str, ...] = _flag(
        ("*",), _CALLERS, "web pages of which origins may read answers: *, none, or a list", parse_origins, "ORIGIN,..."
    )

    log_level: str = _flag("info", _LOG, f"how much is logged: {', '.join(LOG_LEVELS)}", one_of(LOG_LEVELS), "LEVEL")
    log_format: str = _flag(
        "text", _LOG, "how a log line is written: text for people, json for programs", one_of(LOG_FORMATS), "NAME"
    )
    log_prompts: bool = _flag(False, _LOG, "write prompts into the log too", parse_boolean, "true|false", "true")

    img_format: ImageFormat = _flag(
        ImageFormat.JPEG,
        _IMAGES,
        "format of the images where a request names none: JPEG, PNG or WebP",
        parse_image_format,
        "NAME",
    )
    save_to_disk: bool = _flag(
        False, _IMAGES, "also save every image, in one folder a request", parse_boolean, "true|false", "true"
    )
    output_dir: Path = _flag(Path("generations"), _IMAGES, "folder that images are saved in", parse_path, "FOLDER")
    max_disk_mb: int | None = _flag(
        None, _IMAGES, "keep saved images below so many MiB by removing the oldest requests", integer_between(1, 10**9), "COUNT"
    )

    public_url: str | None = _flag(
        None,
        _LINKS,
        "address that callers know the server by, for links to images: https://images.example.org",
        parse_base_url,
        "URL",
    )
    trust_proxy: bool = _flag(
        False,
        _LINKS,
        "believe X-Forwarded-For, -Proto, -Host, -Port and -Prefix: only behind one proxy that sets them",
        parse_boolean,
        "true|false",
        "true",
    )
    url_ttl: int = _flag(3600, _LINKS, "how many seconds a link to an image works", integer_between(1, 7 * 24 * 3600), "SECONDS")

    @property
    def api_keys(self) -> tuple[str, ...]:
        """Return every key that opens the door; none where there is no door."""
        return self.api_key + self.api_key_file

    @property
    def max_disk_bytes(self) -> int | None:
        """Return the bound of saved images in bytes."""
        return None if self.max_disk_mb is None else self.max_disk_mb * 2**20


FLAGS: tuple[Flag, ...] = tuple(Flag(name=item.name, default=item.default, **item.metadata) for item in fields(Settings))
