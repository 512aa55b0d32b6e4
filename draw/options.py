"""The drawing command's options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consts import (
    MAX_BEST_OF,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_SUPERCONDITION_FACTOR,
    MAX_TEMPERATURE,
    MAX_TOP_K,
    MIN_SUPERCONDITION_FACTOR,
    MIN_TEMPERATURE,
    PRECISIONS,
    ImageFormat,
    ModelSize,
)
from utils import (
    CommandLineParser,
    integer_between,
    member_of,
    number_between,
    one_of,
    parse_device,
    parse_image_format,
    parse_path,
    parse_prompt,
)

COMMAND = "python -m dalle_model"
_MAX_IMAGES = 1000

_EPILOG = f"""\
examples:
  {COMMAND} "a red circle" --num_images 4 --output_dir out
  {COMMAND} "two yellow hearts" --num_images 9 --grid
  {COMMAND} "a fox in the snow" --model_version Mini --seed 7

The same prompt, seed and settings draw the same image, here and on the
server. Tiny is built in; Mini and Mega are downloaded once.

The flags of min-dalle's image_from_text.py work as there: --text --mega
--no-mega --seed --grid-size --image-path --models-root.

exit status: 0 drawn, 1 drawing failed, 2 bad value, 3 bad weights.
"""


@dataclass(frozen=True)
class Options:
    """The values on the command line. None stands for the model's default."""

    prompt: str
    num_images: int
    output_dir: Path
    grid: bool
    format: ImageFormat
    seed: int
    temperature: float | None
    top_k: int | None
    supercondition_factor: float | None
    best_of: int | None
    negative_prompt: str | None
    model_version: ModelSize
    models_root: Path | None
    device: str
    precision: str


def read_options(arguments: Sequence[str]) -> Options:
    """Return the options. A bad value ends the process with one line on standard error and status 2."""
    parser = CommandLineParser(COMMAND, "Draw images from a prompt, without a server.", _EPILOG)

    def add(name: str, parse: Callable[[str], Any], metavar: str, help: str, default: Any = None) -> None:
        parser.add_argument(name, type=typed(parse), metavar=metavar, help=help, default=default)

    add("prompt", parse_prompt(MAX_PROMPT_CHARACTERS), "PROMPT", "what to draw")
    add("--num_images", integer_between(1, _MAX_IMAGES), "COUNT", "how many images (default: 1)", 1)
    add("--output_dir", parse_path, "FOLDER", "folder for the files (default: generations)", Path("generations"))
    parser.add_argument("--grid", action="store_true", help="save all images as one sheet")
    add("--format", parse_image_format, "NAME", "JPEG, PNG or WebP (default: JPEG)", ImageFormat.JPEG)
    add("--seed", integer_between(-1, MAX_SEED), "NUMBER", "of the first image; image i has seed + i (default: -1, random)", -1)
    temperatures = number_between(MIN_TEMPERATURE, MAX_TEMPERATURE)
    add("--temperature", temperatures, "NUMBER", "above 1 more varied, below 1 safer (default: the model's)")
    add("--top_k", integer_between(1, MAX_TOP_K), "COUNT", "draw from the k likeliest tokens (default: the model's)")
    guidances = number_between(MIN_SUPERCONDITION_FACTOR, MAX_SUPERCONDITION_FACTOR)
    add("--supercondition_factor", guidances, "NUMBER", "guidance: how closely to follow the text (default: the model's)")
    best_of = "draw so many candidates of each image, and keep the likeliest (default: the model's)"
    add("--best_of", integer_between(1, MAX_BEST_OF), "COUNT", best_of)
    negative = "what not to draw: guidance leads away from it"
    add("--negative_prompt", parse_prompt(MAX_PROMPT_CHARACTERS), "PROMPT", negative)
    add("--model_version", member_of(ModelSize), "NAME", "Tiny, Mini, Mega or Mega_full (default: Tiny)", ModelSize.TINY)
    add("--models_root", parse_path, "FOLDER", "weights you already have, in the layout of min-dalle's models_root")
    add("--device", parse_device, "NAME", "auto, cpu, cuda, cuda:<number> or mps (default: auto)", "auto")
    add("--precision", one_of(PRECISIONS), "NAME", f"{', '.join(PRECISIONS)} (default: auto)", "auto")
    return Options(**vars(parser.parse_args(arguments)))


def typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser whose message argparse shows."""

    def parse_for_argparse(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            shown = repr(text) if len(text) <= 60 else f"{len(text)} characters"
            raise argparse.ArgumentTypeError(f"{error}, not {shown}") from error

    return parse_for_argparse
