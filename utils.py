"""Pure functions: parsers of argument values, and conversions of images and prompts."""

from __future__ import annotations

import argparse
import base64
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from PIL import Image

from consts import EXIT_BAD_SETTING, ImageFormat

EnumT = TypeVar("EnumT", bound=Enum)

_MAX_SLUG_BYTES = 60
_API_KEY = re.compile(r"[!-+\--~]{8,200}")  # visible ASCII without commas, valid in any header
_ORIGIN = re.compile(r"null|https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")

# High quality without chroma subsampling (4:4:4), which blurs the edges between flat colours that these models often draw.
_ENCODER_OPTIONS: dict[ImageFormat, dict[str, Any]] = {
    ImageFormat.JPEG: {"quality": 95, "subsampling": 0},
    ImageFormat.PNG: {},
    ImageFormat.WEBP: {"quality": 95, "method": 4},
}


def parse_boolean(text: str) -> bool:
    """Parse true or false, as in `--save_to_disk true`. Raises ValueError."""
    word = text.strip().lower()
    if word in {"true", "yes", "on", "1"}:
        return True
    if word in {"false", "no", "off", "0"}:
        return False
    raise ValueError("must be true or false")


def integer_between(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`, both included; it raises ValueError."""

    def parse(text: str) -> int:
        if re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", text) is None or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def parse_replicas(text: str) -> int | str:
    """Parse a count of replicas, 1 to 1000, or `auto`. Raises ValueError."""
    if text.strip().lower() == "auto":
        return "auto"
    try:
        return integer_between(1, 1000)(text)
    except ValueError:
        raise ValueError("must be a whole number from 1 to 1000, or auto") from None


def number_between(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers from `low` to `high`, both included; it raises ValueError."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return number

    return parse


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return a parser that accepts one of `names` in any case; it raises ValueError."""

    def parse(text: str) -> str:
        for name in names:
            if name.lower() == text.strip().lower():
                return name
        raise ValueError(f"must be one of {', '.join(names)}")

    return parse


def member_of(kind: type[EnumT]) -> Callable[[str], EnumT]:
    """Return a parser that accepts a value of `kind` in any case; it raises ValueError."""
    parse_value = one_of([str(member.value) for member in kind])
    return lambda text: kind(parse_value(text))


def parse_image_format(text: str) -> ImageFormat:
    """Parse an image format in any case; `jpg` is `jpeg`. Raises ValueError."""
    return member_of(ImageFormat)("jpeg" if text.strip().lower() == "jpg" else text)


def parse_base_url(text: str) -> str:
    """Parse the server's public http or https address, with or without a path. Raises ValueError."""
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and parts.hostname is not None and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.query or parts.fragment or any(c.isspace() for c in url):
        raise ValueError("must be an address such as https://images.example.org, without ? or #")
    return url


def parse_text(text: str) -> str:
    """Return text without white space around it. Raises ValueError if it is blank."""
    if not text.strip():
        raise ValueError("must not be empty")
    return text.strip()


def parse_hosts(text: str) -> tuple[str, ...]:
    """Parse host names or addresses, separated by commas. Raises ValueError. Binding finds out whether they exist."""
    hosts = tuple(host.strip() for host in text.split(","))
    if not all(hosts):
        raise ValueError("must be addresses separated by commas, none of them empty")
    return hosts


def parse_prompt(max_characters: int) -> Callable[[str], str]:
    """Return a parser of prompts, texts that are neither blank nor too long; it raises ValueError."""

    def parse(text: str) -> str:
        prompt = parse_text(text)
        if len(prompt) > max_characters:
            raise ValueError(f"must have at most {max_characters} characters")
        return prompt

    return parse


def parse_device(text: str) -> str:
    """Parse torch's name of a device, in any case. Raises ValueError. Loading finds out whether the machine has it."""
    device = text.strip().lower()
    if re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", device) is None:
        raise ValueError("must be auto, cpu, cuda, cuda:<number> or mps")
    return device


def parse_path(text: str) -> Path:
    """Parse a path; `~` is the home folder. Raises ValueError."""
    if "\0" in text:
        raise ValueError("must be a path without NUL characters")
    try:
        return Path(parse_text(text)).expanduser()
    except RuntimeError:
        raise ValueError("must be a path whose ~ is an existing home folder") from None


def parse_api_keys(text: str) -> tuple[str, ...]:
    """Parse keys, separated by commas. Raises ValueError, whose message has no key in it."""
    keys = tuple(key.strip() for key in text.split(","))
    if not all(_API_KEY.fullmatch(key) for key in keys):
        raise ValueError("must be keys of 8 to 200 visible ASCII characters, separated by commas")
    return keys


def parse_api_key_file(text: str) -> tuple[str, ...]:
    """Read a file of keys, one per line; blank lines and lines that begin with # are ignored. Raises ValueError."""
    path = parse_path(text)
    try:
        lines = [line.strip() for line in path.read_text(encoding="ascii").splitlines()]
    except OSError as error:
        raise ValueError(f"must be a file that can be read ({error.strerror})") from error
    except UnicodeDecodeError:
        lines = ["not ASCII"]  # not a valid key: fails the check below
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys or not all(_API_KEY.fullmatch(key) for key in keys):
        raise ValueError(
            "must be a file with at least one key, one per line, each of 8 to 200 visible ASCII characters but commas"
        )
    return keys


def parse_origins(text: str) -> tuple[str, ...]:
    """Parse web origins, separated by commas; `*` allows all, `none` none. Raises ValueError."""
    origins = tuple(origin.strip().lower() for origin in text.split(","))
    if origins == ("none",):
        return ()
    if origins == ("*",) or all(_ORIGIN.fullmatch(origin) for origin in origins):
        return origins
    raise ValueError("must be *, none, or origins such as https://play.example, separated by commas")


def parse_rate_limit(text: str) -> str:
    """Parse rate limits such as `30 per minute; 500 per day`. Raises ValueError."""
    from limits import parse_many  # here, because most servers start without one

    try:
        is_good = all(limit.amount > 0 for limit in parse_many(text))
    except ValueError:
        is_good = False
    if not is_good:
        raise ValueError("must be a count per second, minute, hour or day, such as 30 per minute; separate several with ;")
    return text.strip()


def parse_rate_limit_storage(text: str) -> str:
    """Parse where a rate limit is counted. Raises ValueError, whose message has no password in it."""
    url = text.strip()
    if url != "memory://" and re.match(r"rediss?://[^\s/]|redis\+unix://", url) is None:
        raise ValueError("must be memory://, redis://host:port, rediss://host:port or redis+unix:///path")
    return url


def encode_image(image: Image.Image, image_format: ImageFormat, **extra: Any) -> bytes:
    """Encode an image; `extra` options for Pillow's encoder, such as metadata, override the defaults."""
    buffer = BytesIO()
    image.save(buffer, format=image_format.value, **{**_ENCODER_OPTIONS[image_format], **extra})
    return buffer.getvalue()


def to_base64(data: bytes) -> str:
    """Encode bytes in base64, without the prefix of a data URI."""
    return base64.b64encode(data).decode("ascii")


def slugify(prompt: str) -> str:
    """Return a prompt as part of a file name: lower-case letters and digits of any script, single hyphens; never empty.

    It is in Unicode's form NFC and has at most 60 bytes in UTF-8. With an ASCII suffix it is a valid name on every system.
    """
    composed = unicodedata.normalize("NFC", prompt.lower())
    kept = "".join(char if unicodedata.category(char)[0] in "LMN" else "-" for char in composed)
    shortened = re.sub("-+", "-", kept).strip("-").encode()[:_MAX_SLUG_BYTES].decode(errors="ignore").rstrip("-")
    return shortened or "image"


def make_grid(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """Return images of one size in rows on a white background, as square as possible unless `columns` is given.

    Raises ValueError if there are no images or no columns.
    """
    if not images or (columns is not None and columns < 1):
        raise ValueError("a grid needs at least one image and one column")
    width, height = images[0].size
    column_count = columns or math.ceil(math.sqrt(len(images)))
    row_count = math.ceil(len(images) / column_count)
    grid = Image.new("RGB", (column_count * width, row_count * height), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, column_count)
        grid.paste(image, (column * width, row * height))
    return grid


class CommandLineParser(argparse.ArgumentParser):
    """A parser that reports an error in one line, without argparse's usage lines before it."""

    def __init__(self, command: str, description: str, epilog: str, name: str = "") -> None:
        """`command` is how a user types the command; `name` is what error messages call it, by default the same."""
        super().__init__(
            prog=command,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._name = name or command

    def error(self, message: str) -> NoReturn:
        """End the process with status 2."""
        self.exit(EXIT_BAD_SETTING, f"{self._name}: {message}; see {self.prog} --help\n")
