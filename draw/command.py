"""Draw from the command line, without a server: what `python -m dalle_model` runs.

The files' paths go to standard output, one a line; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, NoReturn

from PIL import Image
from tqdm import tqdm

from consts import (
    EXIT_BAD_CHECKPOINT,
    EXIT_BAD_SETTING,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
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
from engine.errors import CheckpointError, DalleError, InvalidRequest
from engine.events import ImageDone, Progress
from engine.request import IMAGE_TOKEN_COUNT
from utils import (
    encode_image,
    integer_between,
    make_grid,
    member_of,
    number_between,
    one_of,
    parse_device,
    parse_image_format,
    parse_path,
    parse_prompt,
    slugify,
)

_NAME = "python -m dalle_model"
_MAX_IMAGES = 1000

_EPILOG = f"""\
examples:
  {_NAME} "a red circle" --num_images 4 --output_dir out
  {_NAME} "two yellow hearts" --num_images 9 --grid
  {_NAME} "a fox in the snow" --model_version Mini --seed 7

The same prompt, seed and settings draw the same image, here and on the
server. Tiny is built in; Mini and Mega are downloaded once.

exit status: 0 drawn, 1 drawing failed, 2 a value can't be used, 3 the
weights can't.
"""


@dataclass(frozen=True)
class DrawCommand:
    """Hold what the command line asks for; None is the model's default."""

    prompt: str
    num_images: int
    output_dir: Path
    grid: bool
    format: ImageFormat
    seed: int | None
    temperature: float | None
    top_k: int | None
    supercondition_factor: float | None
    model_version: ModelSize
    models_root: Path | None
    device: str
    precision: str


class _Parser(argparse.ArgumentParser):
    """Say what is wrong in one line, without argparse's usage lines before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_SETTING, f"{_NAME}: {message}; see {_NAME} --help\n")


def parse_command(arguments: Sequence[str]) -> DrawCommand:
    """Read the command line; a bad one ends the process with one line on stderr and status 2."""
    parser = _Parser(
        prog=_NAME,
        description="Draw images from a prompt, without a server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def add(name: str, parse: Callable[[str], Any], metavar: str, help: str, default: Any = None) -> None:
        parser.add_argument(name, type=_typed(parse), metavar=metavar, help=help, default=default)

    add("prompt", parse_prompt(MAX_PROMPT_CHARACTERS), "PROMPT", "what to draw")
    add("--num_images", integer_between(1, _MAX_IMAGES), "COUNT", "how many images (default: 1)", 1)
    add("--output_dir", parse_path, "FOLDER", "where the files go; made if need be (default: generations)", Path("generations"))
    parser.add_argument("--grid", action="store_true", help="save all images as one sheet")
    add("--format", parse_image_format, "NAME", "JPEG, PNG or WebP (default: JPEG)", ImageFormat.JPEG)
    add("--seed", integer_between(0, MAX_SEED), "NUMBER", "of the first image; image i has seed + i (default: random)")
    temperatures = number_between(MIN_TEMPERATURE, MAX_TEMPERATURE)
    add("--temperature", temperatures, "NUMBER", "above 1 more varied, below 1 safer (default: the model's)")
    add("--top_k", integer_between(1, MAX_TOP_K), "COUNT", "draw from the k likeliest tokens (default: the model's)")
    guidances = number_between(MIN_SUPERCONDITION_FACTOR, MAX_SUPERCONDITION_FACTOR)
    add("--supercondition_factor", guidances, "NUMBER", "guidance: how closely to follow the text (default: the model's)")
    add("--model_version", member_of(ModelSize), "NAME", "Tiny, Mini, Mega or Mega_full (default: Tiny)", ModelSize.TINY)
    add("--models_root", parse_path, "FOLDER", "weights you already have, laid out as min-dalle's models_root")
    add("--device", parse_device, "NAME", "auto, cpu, cuda, cuda:<number> or mps (default: auto)", "auto")
    add("--precision", one_of(PRECISIONS), "NAME", f"{', '.join(PRECISIONS)} (default: auto)", "auto")
    return DrawCommand(**vars(parser.parse_args(arguments)))


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse say what a parser of ours says."""

    def parse_for_argparse(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            shown = repr(text) if len(text) <= 60 else f"{len(text)} characters"
            raise argparse.ArgumentTypeError(f"{error}, not {shown}") from error

    return parse_for_argparse


def main(arguments: Sequence[str], open_model: Callable[..., Any]) -> int:
    """Draw what the command line asks for; give the process's exit status."""
    command = parse_command(arguments)
    signal.signal(signal.SIGINT, _Interrupt.come)
    try:
        with _writing(command.output_dir):
            command.output_dir.mkdir(parents=True, exist_ok=True)
        _draw(command, open_model)
    except _NotWritten as error:
        return _refuse(str(error), EXIT_BAD_SETTING)
    except InvalidRequest as error:  # a device or precision that this machine lacks
        return _refuse(str(error), EXIT_BAD_SETTING)
    except CheckpointError as error:
        return _refuse(str(error), EXIT_BAD_CHECKPOINT)
    except DalleError as error:
        return _refuse(f"{error}: {error.__cause__}" if error.__cause__ else str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _refuse("stopped", EXIT_INTERRUPTED)
    return EXIT_OK


class _Interrupt:
    """Raise KeyboardInterrupt as Python does, and again at the next event: a destructor may have lost the first."""

    has_come = False

    @classmethod
    def come(cls, number: int, frame: FrameType | None) -> NoReturn:
        """Handle the signal."""
        cls.has_come = True
        raise KeyboardInterrupt

    @classmethod
    def check(cls) -> None:
        """Raise it again."""
        if cls.has_come:
            raise KeyboardInterrupt


def _refuse(sentence: str, status: int) -> int:
    print(f"{_NAME}: {sentence}", file=sys.stderr)
    return status


def _draw(command: DrawCommand, open_model: Callable[..., Any]) -> None:
    """Draw, and save each image as soon as it is done; a sheet at the end."""
    print(f"Loading DALL-E {command.model_version.value} ...", file=sys.stderr)
    with (
        open_model(
            command.model_version.value,
            models_root=command.models_root,
            device=command.device,
            precision=command.precision,
            show_progress=True,
        ) as model,
        tqdm(total=command.num_images * IMAGE_TOKEN_COUNT, desc="drawing", unit=" tokens", leave=False, disable=None) as bar,
    ):
        done: dict[int, ImageDone] = {}
        drawn = [0] * command.num_images
        for event in model.stream(
            command.prompt,
            command.num_images,
            seed=command.seed,
            temperature=command.temperature,
            top_k=command.top_k,
            supercondition_factor=command.supercondition_factor,
            previews=False,
        ):
            _Interrupt.check()
            if isinstance(event, Progress):
                bar.update(event.tokens_drawn - drawn[event.index])
                drawn[event.index] = event.tokens_drawn
            elif isinstance(event, ImageDone):
                done[event.index] = event
                if not command.grid:
                    _save(event.image, f"{slugify(command.prompt)}-{event.seed}", command)
    if command.grid:
        in_order = [done[index] for index in sorted(done)]
        sheet = make_grid([event.image for event in in_order])
        _save(sheet, f"{slugify(command.prompt)}-{in_order[0].seed}-grid", command)


def _save(image: Image.Image, name: str, command: DrawCommand) -> None:
    """Save an image under a name of its own, beside what is there already, and print where."""
    data = encode_image(image, command.format)
    with _writing(command.output_dir):
        path, file = _new_file(command.output_dir, name, command.format.value)
        try:
            with file:
                file.write(data)
        except BaseException:
            path.unlink(missing_ok=True)  # half a picture is none
            raise
    with suppress(BrokenPipeError):  # whoever read the names has had enough of them; the pictures are drawn all the same
        print(path, flush=True)


def _new_file(folder: Path, name: str, extension: str) -> tuple[Path, BinaryIO]:
    """Open a file that was not there before, by a number in its name where need be."""
    for number in count(1):
        path = folder / f"{name}{'' if number == 1 else f'-{number}'}.{extension}"
        with suppress(FileExistsError):
            return path, path.open("xb")
    raise AssertionError("count never ends")


class _NotWritten(Exception):
    """Say in one line why files can't be written."""


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _NotWritten(f"can't write to {folder} ({reason}): choose another with --output_dir") from error
