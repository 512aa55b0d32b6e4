"""The server's settings: one frozen dataclass, whose fields are also the one table of flags.

The parser, the environment variables and the test of README's table all derive from `FLAGS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from math import ceil
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
    parse_hosts,
    parse_image_format,
    parse_origins,
    parse_path,
    parse_rate_limit,
    parse_rate_limit_storage,
    parse_replicas,
    parse_text,
)


@dataclass(frozen=True)
class Flag:
    """One setting: its option and variable, its parser, its help."""

    name: str  # of the field in Settings
    default: Any
    group: str
    help: str
    parse: Callable[[str], Any]  # raises ValueError with what is accepted: "must be ..."
    metavar: str
    bare: str | None = None  # the value of an option that is given without one
    is_secret: bool = False  # never shown; an empty value is an error
    may_repeat: bool = False  # values of a repeated option are joined by commas

    @property
    def option(self) -> str:
        """The command line option."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"DALLE_{self.name.upper()}"

    @property
    def default_text(self) -> str:
        """The default as a user would type it."""
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
_MODEL, _SERVER, _MACHINES, _ACCESS = "model", "server", "several machines", "access"
_LOG, _IMAGES, _LINKS = "log", "images", "links to images"


@dataclass(frozen=True)
class Settings:
    """Every setting, with its default."""

    model_version: ModelSize = _flag(
        ModelSize.MINI, _MODEL, "model to load: Tiny (built in), Mini, Mega or Mega_full", member_of(ModelSize), "NAME"
    )
    models_root: Path | None = _flag(
        None, _MODEL, "folder with weights you already have, in the layout of min-dalle's models_root", parse_path, "FOLDER"
    )
    device: str = _flag("auto", _MODEL, "where to compute: auto, cpu, cuda, cuda:<number> or mps", parse_device, "NAME")
    runner: str = _flag("auto", _MODEL, f"library that computes: {', '.join(RUNNERS)}", one_of(RUNNERS), "NAME")
    precision: str = _flag("auto", _MODEL, f"precision of the weights: {', '.join(PRECISIONS)}", one_of(PRECISIONS), "NAME")
    threads: int = _flag(
        0, _MODEL, "threads to compute with on a CPU; 0 takes all that the container allows", integer_between(0, 1024), "COUNT"
    )
    cache_dir: Path | None = _flag(
        None, _MODEL, "folder for converted models, 0.8 GB for Mini; by default in the user's cache folder", parse_path, "FOLDER"
    )
    max_batch_size: int = _flag(32, _MODEL, "the most images that are drawn at once", integer_between(1, 256), "COUNT")

    max_batch_per_caller: int = _flag(
        8,
        _MODEL,
        "the most images of one caller that are drawn at once, unless one request has more",
        integer_between(1, 256),
        "COUNT",
    )

    host: tuple[str, ...] = _flag(
        ("localhost",),
        _SERVER,
        "addresses to listen on; localhost is 127.0.0.1 and ::1, and 0.0.0.0 opens the server to the network",
        parse_hosts,
        "ADDRESS,...",
        may_repeat=True,
    )
    port: int = _flag(8000, _SERVER, "port to listen on; 0 takes any free one", integer_between(0, 65535), "NUMBER")
    max_images: int = _flag(10, _SERVER, "the most images in one request", integer_between(1, 1000), "COUNT")

    max_queue: int = _flag(
        64, _SERVER, "the most images that wait; further requests get 429 with Retry-After", integer_between(0, 10_000), "COUNT"
    )
    max_queue_per_caller: int | None = _flag(
        None,
        _SERVER,
        "the most images of one caller that wait; by default three quarters of --max_queue",
        integer_between(0, 10_000),
        "COUNT",
    )
    rate_limit: str | None = _flag(
        None,
        _SERVER,
        "the most drawings that one caller may start, such as 30 per minute; further requests get 429 with Retry-After",
        parse_rate_limit,
        "COUNT per TIME",
    )
    rate_limit_storage: str = _flag(
        "memory://",
        _SERVER,
        "where drawings are counted: memory://, or redis://host:port where several servers count together",
        parse_rate_limit_storage,
        "URL",
        is_secret=True,
    )
    request_timeout: int = _flag(600, _SERVER, "time limit of a request in seconds, waiting included", _SECONDS, "SECONDS")
    step_timeout: int = _flag(
        60,
        _SERVER,
        "seconds after which a step counts as hanging and /health/live fails; after five times as many the process ends",
        _SECONDS,
        "SECONDS",
    )
    drain_timeout: int = _flag(
        60,
        _SERVER,
        "seconds to finish accepted images before the server stops",
        integer_between(0, 86_400),
        "SECONDS",
    )

    replicas: int | str | None = _flag(
        None,
        _MACHINES,
        "how many machines draw, or auto: as many as the waiting images need; needs requirements-cluster.txt",
        parse_replicas,
        "COUNT|auto",
    )
    max_replicas: int = _flag(4, _MACHINES, "the most machines with --replicas auto", integer_between(1, 1000), "COUNT")
    ray_address: str | None = _flag(
        None,
        _MACHINES,
        "Ray cluster to join: host:port, or auto for the one that this machine is part of; by default Ray is started here",
        parse_text,
        "ADDRESS",
    )

    api_key: tuple[str, ...] = _flag(
        (),
        _ACCESS,
        "API keys accepted for drawing; ps shows command lines to other users, so prefer the environment or --api_key_file",
        parse_api_keys,
        "KEY,...",
        is_secret=True,
        may_repeat=True,
    )
    api_key_file: tuple[str, ...] = _flag(
        (), _ACCESS, "file with API keys, one per line, read at start", parse_api_key_file, "FILE", is_secret=True
    )
    open_metrics: bool = _flag(
        True, _ACCESS, "answer GET /metrics without a key, even if drawing needs one", parse_boolean, "true|false", "true"
    )
    cors_origins: tuple[str, ...] = _flag(
        ("*",), _ACCESS, "origins whose web pages may read answers: *, none, or a list", parse_origins, "ORIGIN,..."
    )

    log_level: str = _flag("info", _LOG, f"log level: {', '.join(LOG_LEVELS)}", one_of(LOG_LEVELS), "LEVEL")
    log_format: str = _flag("text", _LOG, "format of a log line: text for people, json for programs", one_of(LOG_FORMATS), "NAME")
    log_prompts: bool = _flag(False, _LOG, "include prompts in the log", parse_boolean, "true|false", "true")

    img_format: ImageFormat = _flag(
        ImageFormat.JPEG,
        _IMAGES,
        "image format if a request names none: JPEG, PNG or WebP",
        parse_image_format,
        "NAME",
    )
    save_to_disk: bool = _flag(False, _IMAGES, "save every image, in one folder per request", parse_boolean, "true|false", "true")
    output_dir: Path = _flag(Path("generations"), _IMAGES, "folder for saved images", parse_path, "FOLDER")
    max_disk_mb: int | None = _flag(
        None, _IMAGES, "size limit of saved images in MiB; the oldest requests are removed", integer_between(1, 10**9), "COUNT"
    )

    public_url: str | None = _flag(
        None,
        _LINKS,
        "public address of the server, for links to images: https://images.example.org",
        parse_base_url,
        "URL",
    )
    trust_proxy: bool = _flag(
        False,
        _LINKS,
        "trust X-Forwarded-For, -Proto, -Host, -Port and -Prefix: only behind one proxy that sets them",
        parse_boolean,
        "true|false",
        "true",
    )
    url_ttl: int = _flag(3600, _LINKS, "lifetime of a link to an image in seconds", integer_between(1, 7 * 24 * 3600), "SECONDS")

    @property
    def api_keys(self) -> tuple[str, ...]:
        """Every accepted API key; empty if drawing needs none."""
        return self.api_key + self.api_key_file

    @property
    def most_replicas(self) -> int:
        """The most machines that draw; 1 if this process draws itself."""
        if self.replicas is None:
            return 1
        return self.replicas if isinstance(self.replicas, int) else self.max_replicas

    @property
    def images_at_once(self) -> int:
        """The most images that are drawn at once, on all machines together."""
        return self.max_batch_size * self.most_replicas

    @property
    def images_per_request(self) -> int:
        """The most images in one request: `max_images`, but never more than a caller's shares of batch and queue together."""
        return min(self.max_images, min(self.max_batch_per_caller, self.max_batch_size) + self.queue_per_caller)

    @property
    def queue_per_caller(self) -> int:
        """The most images of one caller that wait."""
        share = ceil(0.75 * self.max_queue) if self.max_queue_per_caller is None else self.max_queue_per_caller
        return min(share, self.max_queue)

    @property
    def max_disk_bytes(self) -> int | None:
        """The size limit of saved images in bytes."""
        return None if self.max_disk_mb is None else self.max_disk_mb * 2**20


FLAGS: tuple[Flag, ...] = tuple(Flag(name=item.name, default=item.default, **item.metadata) for item in fields(Settings))
