"""Write the classic route's server-sent events: queued, progress, preview, image, done, error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import Image

from consts import ImageFormat
from dalle_model import IMAGE_TOKEN_COUNT, Event, ImageDone, Preview, Progress, Queued
from server.api.classic.schemas import DalleRequest, DoneEvent, ImageEvent, PreviewEvent, ProgressEvent, QueuedEvent
from server.api.errors import Answer
from server.api.event_stream import frame
from server.images.encoding import encode
from server.images.output_folder import Storage
from server.images.saving import gather, save_pictures
from utils import make_grid, to_base64

if TYPE_CHECKING:
    from dalle_model import DalleModel


class DalleWriter:
    """Tell of one drawing as `POST /dalle` does with `stream`."""

    def __init__(self, model: DalleModel, storage: Storage | None, asked: DalleRequest, image_format: ImageFormat) -> None:
        self._model, self._storage, self._asked, self._format = model, storage, asked, image_format
        self._done: dict[int, ImageDone] = {}

    def write(self, event: Event) -> Iterator[bytes]:
        """Write an event; where all images are one sheet, they wait for the last."""
        if isinstance(event, Queued):
            yield frame("queued", QueuedEvent(position=event.position))
        elif isinstance(event, Progress):
            yield frame("progress", ProgressEvent(index=event.index, percent=_percent(event.tokens_drawn)))
        elif isinstance(event, Preview):
            image = to_base64(encode(event.image, ImageFormat.JPEG))
            yield frame("preview", PreviewEvent(index=event.index, percent=_percent(event.tokens_drawn), image=image))
        elif isinstance(event, ImageDone):
            self._done[event.index] = event
            if not self._asked.grid:
                yield self._image(event.index, event.seed, event.image)

    def end(self) -> Iterator[bytes]:
        """Write the sheet, if one was asked for, and that all is done."""
        asked = self._asked
        drawing = gather(self._done, asked.num_images, asked.settings(self._model.sampling))
        pictures = [make_grid(drawing.images)] if asked.grid else drawing.images
        if asked.grid:
            yield self._image(0, drawing.seeds[0], pictures[0])
        warnings = save_pictures(
            self._storage, self._model.name, drawing, pictures, asked.text, self._format, seamless=asked.seamless
        )
        done = DoneEvent(seeds=drawing.seeds, model=self._model.name, generatedImgsFormat=self._format, warnings=warnings or None)
        yield frame("done", done.model_dump(mode="json", exclude_none=True))

    def fail(self, answer: Answer) -> bytes:
        """Write an error as the route answers it."""
        return frame("error", answer.body)

    def _image(self, index: int, seed: int, picture: Image.Image) -> bytes:
        image = to_base64(encode(picture, self._format))
        return frame("image", ImageEvent(index=index, seed=seed, image=image, format=self._format))


def _percent(tokens_drawn: int) -> int:
    return 100 * tokens_drawn // IMAGE_TOKEN_COUNT
