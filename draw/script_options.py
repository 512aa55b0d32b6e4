"""The flags of min-dalle's script `image_from_text.py`, which the drawing command takes in place of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consts import MAX_PROMPT_CHARACTERS, MAX_SEED
from draw.options import COMMAND, typed
from utils import CommandLineParser, integer_between, parse_path, parse_prompt

_MAX_GRID_SIZE = 31  # images on a side
_NOT_OURS = frozenset({"--text", "--mega", "--no-mega", "--grid-size", "--image-path"})

_EPILOG = """\
These are the flags of min-dalle's image_from_text.py. They do not mix with
this command's own, which --help alone lists.
"""


@dataclass(frozen=True)
class ScriptOptions:
    """The values on the command line."""

    text: str
    mega: bool
    seed: int
    grid_size: int
    image_path: Path
    models_root: Path


def are_script_flags(arguments: Sequence[str]) -> bool:
    """Return whether any of the arguments is a flag that only the script has."""
    return any(argument.partition("=")[0] in _NOT_OURS for argument in arguments)


def read_script_options(arguments: Sequence[str]) -> ScriptOptions:
    """Return the options. A bad value ends the process with one line on standard error and status 2."""
    parser = CommandLineParser(COMMAND, "Draw a grid of images with DALL-E Mini or Mega.", _EPILOG)

    def add(name: str, parse: Callable[[str], Any], metavar: str, help: str, default: Any) -> None:
        parser.add_argument(name, type=typed(parse), metavar=metavar, help=f"{help} (default: {default})", default=default)

    parser.add_argument("--mega", action="store_true", help="draw with Mega", default=False)
    parser.add_argument("--no-mega", dest="mega", action="store_false", help="draw with Mini (default)")
    add("--text", parse_prompt(MAX_PROMPT_CHARACTERS), "PROMPT", "what to draw", "Dali painting of WALL·E")
    add("--seed", integer_between(-1, MAX_SEED), "NUMBER", "of the first image, above 0; otherwise random", -1)
    add("--grid-size", integer_between(1, _MAX_GRID_SIZE), "COUNT", "images on a side of the grid", 1)
    add("--image-path", parse_path, "PATH", "file, or folder for generated.jpg", Path("generated"))
    add("--models-root", parse_path, "FOLDER", "weights; those that it lacks are downloaded elsewhere", Path("pretrained"))
    return ScriptOptions(**vars(parser.parse_args(arguments)))
