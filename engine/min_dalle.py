"""min-dalle's own class on this engine, for scripts that were written for it."""

from __future__ import annotations

import operator
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from PIL import Image

from engine.drawing import Drawing
from engine.errors import HubUnreachable, InvalidRequest
from engine.events import ImageDone, Preview
from engine.request import IMAGE_TOKEN_COUNT, PREVIEW_EVERY, PREVIEWS, DrawingRequest, SamplingSettings, consecutive_seeds
from engine.weights.models import model_spec
from engine.weights.sources import FolderSource

if TYPE_CHECKING:  # loading a model imports torch; importing this module does not
    import torch
    from torch import Tensor

_SIDE = 256  # pixels of an image
_GREY = (128, 128, 128)  # where no image is drawn yet
_CLOSE_SECONDS = 10.0  # that the interpreter's end may wait for a step
_PRECISIONS = {"torch.float32": "float32", "torch.float16": "float16", "torch.bfloat16": "bfloat16"}


class Model(Protocol):
    """A loaded model, as far as `MinDalle` uses it."""

    def start(self, request: DrawingRequest) -> Drawing:
        """Queue a request and return its handle."""

    def count_text_tokens(self, prompt: str) -> int:
        """Return how many tokens of a prompt the model reads."""

    def close(self, timeout: float | None = None) -> bool:
        """Stop the model's thread."""


class MinDalle:
    """min-dalle's class of this name: its arguments, results and layout of a grid, drawn by a model of this project.

    Image i of a grid is in column i // grid_size and row i % grid_size. With a seed above 0 it has seed + i.
    """

    _load_model: ClassVar[Callable[..., Model]]  # DalleModel, which a subclass sets because its module imports this one

    def __init__(
        self,
        models_root: str | os.PathLike[str] = "pretrained",
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        is_mega: bool = True,
        is_reusable: bool = True,
        is_verbose: bool = True,
    ) -> None:
        """Load a model. The interpreter's end closes it, and so does the end of the last reference.

        Args:
            models_root: A folder of weights. If it lacks a file of the model, all come from the hub's cache, and are downloaded
                if needed; nothing is written into this folder.
            dtype: `torch.float32` computes as min-dalle does. None takes what is fastest; so do the 16-bit types on a CPU.
            device: A device by torch's name for it. None takes a GPU if there is one.
            is_mega: Mega, or else Mini.
            is_reusable: Whether the model stays in memory. If not, each drawing loads it.
            is_verbose: Whether to report on standard error.

        Raises InvalidRequest, which names the argument, and CheckpointError if weights are missing or wrong.
        """
        import torch

        if not isinstance(models_root, str | os.PathLike):
            raise InvalidRequest("models_root", f"models_root must be the path of a folder, not {models_root!r}")
        if dtype is not None and str(dtype) not in _PRECISIONS:
            raise InvalidRequest("dtype", f"dtype must be None, {', '.join(_PRECISIONS)}, not {dtype!r}")
        if device in (None, "auto"):
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.models_root, self.dtype, self.device = Path(models_root), dtype, str(device)
        self.is_mega, self.is_reusable, self.is_verbose = is_mega, is_reusable, is_verbose
        self._report(f"using device {self.device}")
        self._model: Model | None = None
        if is_reusable:
            self._model = self._load()
            weakref.finalize(self, self._model.close, _CLOSE_SECONDS)

    def generate_raw_image_stream(
        self,
        text: str,
        seed: int,
        grid_size: int,
        progressive_outputs: bool = False,
        is_seamless: bool = False,
        temperature: float = 1,
        top_k: int = 256,
        supercondition_factor: float = 16,
        is_verbose: bool = False,
    ) -> Iterator[Tensor]:
        """Draw a grid of images; return it at its end, and with `progressive_outputs` after each eighth of its tokens.

        Args:
            text: What to draw.
            seed: The first image's, above 0; otherwise random.
            grid_size: Images on a side of the grid.
            progressive_outputs: Whether to return the grid eight times, in grey where it is not drawn yet.
            is_seamless: Whether to join the images in tokens, so that there are no seams.
            temperature: Above 1 more varied, below 1 safer.
            top_k: How many of the likeliest tokens to draw from.
            supercondition_factor: Guidance: how closely to follow the text.
            is_verbose: Whether to report on standard error.

        Each is float32 [256 grid_size, 256 grid_size, 3], whole numbers from 0 to 255, on the model's device.
        Raises InvalidRequest at once, and the errors of `Drawing.events` while the stream is read.
        """
        if not isinstance(text, str):
            raise InvalidRequest("text", f"text must be a string, not {text!r}")
        side = _whole("grid_size", grid_size)
        if side < 1:
            raise InvalidRequest("grid_size", f"grid_size must be at least 1, not {side}")
        first = _whole("seed", seed)
        seeds = consecutive_seeds(first if first > 0 else None, side * side)
        request = DrawingRequest(
            text,
            # The engine counts images along rows, min-dalle down columns.
            tuple(seeds[column * side + row] for row in range(side) for column in range(side)),
            SamplingSettings(
                _number("temperature", temperature),
                _whole("top_k", top_k),
                _number("supercondition_factor", supercondition_factor),
            ),
            previews=PREVIEWS if progressive_outputs else (),
            seamless=bool(is_seamless),
            every_preview=True,
        )
        return self._draw(request, side, is_verbose)

    def generate_image_stream(self, *args: Any, **kwargs: Any) -> Iterator[Image.Image]:
        """Draw as `generate_raw_image_stream` does, and yield each grid as an image."""
        for grid in self.generate_raw_image_stream(*args, **kwargs):
            yield Image.fromarray(grid.byte().cpu().numpy())

    def generate_images_stream(self, *args: Any, **kwargs: Any) -> Iterator[Tensor]:
        """Draw as `generate_raw_image_stream` does, and yield the images of each grid: float32 [grid_size**2, 256, 256, 3]."""
        for grid in self.generate_raw_image_stream(*args, **kwargs):
            side = len(grid) // _SIDE
            yield grid.view(side, _SIDE, side, _SIDE, 3).permute(2, 0, 1, 3, 4).reshape(-1, _SIDE, _SIDE, 3)

    def generate_image(self, *args: Any, **kwargs: Any) -> Image.Image:
        """Draw as `generate_raw_image_stream` does without `progressive_outputs`, and return the grid as an image."""
        [image] = self.generate_image_stream(*args, **kwargs, progressive_outputs=False)
        return image

    def generate_images(self, *args: Any, **kwargs: Any) -> Tensor:
        """Draw as `generate_raw_image_stream` does without `progressive_outputs`, and return the images."""
        [images] = self.generate_images_stream(*args, **kwargs, progressive_outputs=False)
        return images

    def _draw(self, request: DrawingRequest, side: int, is_verbose: bool) -> Iterator[Tensor]:
        import torch

        with self._loaded() as model:
            if is_verbose:
                self._report(f"{model.count_text_tokens(request.prompt)} text tokens", always=True)
            for grid in _grids(model.start(request), side):
                pixels = torch.frombuffer(bytearray(grid.tobytes()), dtype=torch.uint8)
                yield pixels.view(grid.height, grid.width, 3).to(self.device, torch.float32)

    @contextmanager
    def _loaded(self) -> Iterator[Model]:
        """Yield the model, loaded for this block only if it is not reusable."""
        if self._model is not None:
            yield self._model
            return
        model = self._load()
        close = weakref.finalize(self, model.close, _CLOSE_SECONDS)
        try:
            yield model
        finally:
            close()

    def _load(self) -> Model:
        spec = model_spec("mega" if self.is_mega else "mini")
        folder = FolderSource(self.models_root)
        missing = next((self.models_root / file.path for file in spec.required_files if not folder.has(file)), None)
        if missing is not None:
            self._report(f"{missing} is missing: taking all weights from the hub's cache")
        is_on_cpu = self.device.startswith("cpu")
        is_fastest = self.dtype is None or (is_on_cpu and str(self.dtype) != "torch.float32")
        try:
            return type(self)._load_model(
                spec.name,
                models_root=self.models_root if missing is None else None,
                device=self.device,
                precision="auto" if is_fastest else _PRECISIONS[str(self.dtype)],
                show_progress=self.is_verbose,
            )
        except HubUnreachable as error:
            raise HubUnreachable(f"{missing} is missing, and {error}") from error

    def _report(self, line: str, *, always: bool = False) -> None:
        if always or self.is_verbose:
            print(line, file=sys.stderr)


def _grids(drawing: Drawing, side: int) -> Iterator[Image.Image]:
    """Yield the grid, whenever another eighth of it is drawn if the request has previews, or else once, at its end."""
    request = drawing.request
    grid = Image.new("RGB", (side * _SIDE, side * _SIDE), _GREY)
    picture_count = 1 if request.seamless else len(request.seeds)
    share = picture_count * (PREVIEW_EVERY if request.previews else IMAGE_TOKEN_COUNT)
    shown: dict[int, int] = {}  # tokens of each picture
    due = share
    for event in drawing.events():
        if isinstance(event, Preview | ImageDone):
            row, column = divmod(event.index, side)
            grid.paste(event.image, (column * _SIDE, row * _SIDE))
            shown[event.index] = event.tokens_drawn if isinstance(event, Preview) else IMAGE_TOKEN_COUNT
            while sum(shown.values()) >= due:
                due += share
                yield grid


def _whole(field: str, value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]  # raises TypeError for what is not a whole number
    except TypeError:
        raise InvalidRequest(field, f"{field} must be a whole number, not {value!r}") from None


def _number(field: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidRequest(field, f"{field} must be a number, not {value!r}") from None
