"""The classic answer to a drawing: one JSON object, or events named queued, progress, preview, image, done and error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from consts import ImageFormat
from dalle_model import IMAGE_TOKEN_COUNT, Drawing, Event, ImageDone, Preview, Progress, Queued
from server.api.answers import frame
from server.api.classic.schemas import (
    DalleAnswer,
    DalleRequest,
    DoneEvent,
    ImageEvent,
    PreviewEvent,
    ProgressEvent,
    QueuedEvent,
)
from server.api.errors import ErrorAnswer
from server.images.encoding import encode
from server.images.output_folder import OutputFolder, save_drawing
from utils import make_grid, to_base64


class DalleWriter:
    """The answer of `POST /dalle` for one drawing."""

    def __init__(
        self,
        drawing: Drawing,
        body: DalleRequest,
        image_format: ImageFormat,
        folder: OutputFolder | None,
        warnings: Sequence[str] = (),
    ) -> None:
        """Without a folder nothing is saved. `warnings` are those about the prompt."""
        self._drawing, self._is_grid, self._format, self._folder = drawing, body.grid, image_format, folder
        self._warnings = warnings

    def answer(self) -> DalleAnswer:
        """Return the answer to a finished drawing, after saving it."""
        pictures, warnings = self._finish()
        in_base64 = [to_base64(encode(picture, self._format)) for picture in pictures]
        return DalleAnswer(
            generatedImgs=in_base64,
            generatedImages=in_base64,
            generatedImgsFormat=self._format,
            seeds=self._drawing.seeds,
            scores=self._drawing.scores,
            model=self._drawing.model,
            warnings=warnings or None,
        )

    def write(self, event: Event) -> Iterator[bytes]:
        """Yield the server-sent events for an event of the drawing. The images of a sheet wait for the last one."""
        if isinstance(event, Queued):
            yield frame("queued", QueuedEvent(position=event.position))
        elif isinstance(event, Progress):
            yield frame("progress", ProgressEvent(index=event.index, percent=_percent(event.tokens_drawn)))
        elif isinstance(event, Preview):
            image = to_base64(encode(event.image, ImageFormat.JPEG))
            yield frame("preview", PreviewEvent(index=event.index, percent=_percent(event.tokens_drawn), image=image))
        elif isinstance(event, ImageDone) and not self._is_grid:
            yield self._image(event.index, event.seed, event.image, event.score)

    def end(self) -> Iterator[bytes]:
        """Save the finished drawing, and yield the sheet, if the request wants one, and the last event."""
        pictures, warnings = self._finish()
        drawing = self._drawing
        if self._is_grid:
            yield self._image(0, drawing.seeds[0], pictures[0])
        done = DoneEvent(
            seeds=drawing.seeds,
            scores=drawing.scores,
            model=drawing.model,
            generatedImgsFormat=self._format,
            warnings=warnings or None,
        )
        yield frame("done", done.model_dump(mode="json", exclude_none=True))

    def fail(self, answer: ErrorAnswer) -> bytes:
        """Return the event for an error."""
        return frame("error", answer.body)

    def _finish(self) -> tuple[list[Image.Image], list[str]]:
        """Return the pictures of the answer and all warnings."""
        images = self._drawing.images
        sheet = make_grid(images) if self._is_grid else None
        saving = save_drawing(self._folder, self._drawing, self._format, sheet=sheet)
        return images if sheet is None else [sheet], [*self._warnings, *saving]

    def _image(self, index: int, seed: int, picture: Image.Image, score: float | None = None) -> bytes:
        image = to_base64(encode(picture, self._format))
        event = ImageEvent(index=index, seed=seed, score=score, image=image, format=self._format)
        return frame("image", event.model_dump(mode="json", exclude_none=True))


def _percent(tokens_drawn: int) -> int:
    return 100 * tokens_drawn // IMAGE_TOKEN_COUNT
