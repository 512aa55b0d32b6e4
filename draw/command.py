"""The drawing command: paths of the files go to standard output, one per line, everything else to standard error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from PIL import Image
from tqdm import tqdm

from consts import EXIT_BAD_CHECKPOINT, EXIT_BAD_SETTING, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from draw.files import NotWritten, make_folder, replace_jpeg, save_image
from draw.options import COMMAND, Options, read_options
from draw.script_options import ScriptOptions, are_script_flags, read_script_options
from engine.drawing import Drawing
from engine.errors import CheckpointError, DalleError, InvalidRequest
from engine.events import ImageDone, Progress
from engine.min_dalle import MinDalle
from engine.request import IMAGE_TOKEN_COUNT, DrawingRequest, SamplingSettings, consecutive_seeds
from host.console import ensure_streams
from utils import make_grid, slugify


class Model(Protocol):
    """A loaded model, as far as the command uses it."""

    name: str
    sampling: SamplingSettings

    def start(self, request: DrawingRequest) -> Drawing:
        """Queue a request and return its handle."""

    def prompt_warnings(self, prompt: str) -> list[str]:
        """Return sentences about what of a prompt has no effect."""


def main(
    arguments: Sequence[str], load_model: Callable[..., AbstractContextManager[Model]], load_min_dalle: type[MinDalle]
) -> int:
    """Draw images and save them; return the exit status.

    The two are `DalleModel` and `MinDalle`, which are passed in because their module runs this command.
    """
    ensure_streams()
    options = read_script_options(arguments) if are_script_flags(arguments) else read_options(arguments)
    signal.signal(signal.SIGINT, _Interrupt.handle)
    try:
        if isinstance(options, ScriptOptions):
            _draw_as_script(options, load_min_dalle)
        else:
            make_folder(options.output_dir)
            _draw(options, load_model)
    except (NotWritten, InvalidRequest) as error:  # InvalidRequest: this machine lacks the device or precision
        return _refuse(str(error), EXIT_BAD_SETTING)
    except CheckpointError as error:
        return _refuse(str(error), EXIT_BAD_CHECKPOINT)
    except DalleError as error:
        return _refuse(f"{error}: {error.__cause__}" if error.__cause__ else str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _refuse("stopped", EXIT_INTERRUPTED)
    return EXIT_OK


class _Interrupt:
    """Raises KeyboardInterrupt as Python does, and again at the next event: a destructor may have swallowed the first."""

    has_come = False

    @classmethod
    def handle(cls, number: int, frame: FrameType | None) -> NoReturn:
        cls.has_come = True
        raise KeyboardInterrupt

    @classmethod
    def check(cls) -> None:
        if cls.has_come:
            raise KeyboardInterrupt


def _refuse(message: str, status: int) -> int:
    print(f"{COMMAND}: {message}", file=sys.stderr)
    return status


def _draw(options: Options, load_model: Callable[..., AbstractContextManager[Model]]) -> None:
    """Draw, and save each image as soon as it is done, or the sheet of all at the end."""
    print(f"Loading DALL-E {options.model_version.value} ...", file=sys.stderr)
    with (
        load_model(
            options.model_version.value,
            models_root=options.models_root,
            device=options.device,
            precision=options.precision,
            show_progress=True,
        ) as model,
        tqdm(total=options.num_images * IMAGE_TOKEN_COUNT, desc="drawing", unit=" tokens", leave=False, disable=None) as bar,
    ):
        for warning in model.prompt_warnings(options.prompt):
            print(warning, file=sys.stderr)
        sampling = model.sampling.override(options.temperature, options.top_k, options.supercondition_factor, options.best_of)
        seeds = consecutive_seeds(None if options.seed == -1 else options.seed, options.num_images)
        drawing = model.start(DrawingRequest(options.prompt, seeds, sampling, options.negative_prompt or ""))
        drawn = [0] * options.num_images
        for event in drawing.events():
            _Interrupt.check()
            if isinstance(event, Progress):
                bar.update(event.tokens_drawn - drawn[event.index])
                drawn[event.index] = event.tokens_drawn
            elif isinstance(event, ImageDone) and not options.grid:
                _save(event.image, str(event.seed), options)
    if options.grid:
        _save(make_grid(drawing.images), f"{drawing.seeds[0]}-grid", options)


def _draw_as_script(options: ScriptOptions, load_min_dalle: type[MinDalle]) -> None:
    """Draw what min-dalle's script draws, and save it where the script does."""
    path = options.image_path
    if os.path.isdir(path):  # unlike Path's own, False also where the system does not allow to look
        path /= "generated.jpg"
    elif path.suffix != ".jpg":
        path = path.with_name(f"{path.name}.jpg")
    make_folder(path.parent, "--image-path")
    model = load_min_dalle(options.models_root, is_mega=options.mega)
    replace_jpeg(model.generate_image(options.text, options.seed, options.grid_size), path, "--image-path")
    _print_path(path)


def _save(image: Image.Image, suffix: str, options: Options) -> None:
    """Save an image and print its path."""
    _print_path(save_image(image, options.output_dir, f"{slugify(options.prompt)}-{suffix}", options.format))


def _print_path(path: Path) -> None:
    with suppress(BrokenPipeError):  # nobody reads the paths any more, but the images are still wanted
        print(path, flush=True)
