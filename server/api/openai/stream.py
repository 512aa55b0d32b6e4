"""Write the server-sent events of OpenAI's Images API, and none of our own: clients take an unknown one for an image."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import Image

from dalle_model import IMAGE_TOKEN_COUNT, PREVIEW_EVERY, Event, ImageDone, Preview
from server.api.error_bodies import OpenAIErrorEvent
from server.api.errors import Answer
from server.api.event_stream import frame
from server.api.openai.schemas import CompletedEvent, ImagesRequest, PartialImageEvent, Usage
from server.images.output_folder import Storage
from server.images.saving import gather, save_pictures
from utils import to_base64

if TYPE_CHECKING:
    from dalle_model import DalleModel


class ImagesWriter:
    """Tell of one drawing as `POST /v1/images/generations` does with `stream`."""

    def __init__(self, model: DalleModel, storage: Storage | None, asked: ImagesRequest) -> None:
        self._model, self._storage, self._asked = model, storage, asked
        self._created_at = int(time.time())
        self._shown: Counter[int] = Counter()  # previews of each image
        self._done: dict[int, ImageDone] = {}

    def write(self, event: Event) -> Iterator[bytes]:
        """Write a half-drawn image, or a finished one."""
        if isinstance(event, Preview):
            yield self._partial(event)
        elif isinstance(event, ImageDone):
            yield self._completed(event)
            self._done[event.index] = event

    def end(self) -> Iterator[bytes]:
        """Save what was drawn; the clients know the end by the last image."""
        if self._storage is not None:
            asked = self._asked
            drawing = gather(self._done, asked.n, asked.settings(self._model.sampling))
            save_pictures(
                self._storage, self._model.name, drawing, drawing.images, asked.prompt, asked.output_format, size=asked.size
            )
        yield from ()

    def fail(self, answer: Answer) -> bytes:
        """Write an error, which a client raises."""
        return frame("error", OpenAIErrorEvent.model_validate(answer.body))

    def _partial(self, event: Preview) -> bytes:
        asked = self._asked
        shown = PartialImageEvent(
            b64_json=self._encoded(event.image),
            partial_image_index=self._shown[event.index],
            index=event.index,
            created_at=self._created_at,
            size=asked.size_text,
            output_format=asked.output_format,
        )
        self._shown[event.index] += 1
        return frame(shown.type, shown)

    def _completed(self, event: ImageDone) -> bytes:
        asked = self._asked
        # The prompt is read once for all images, so it counts with the first.
        text_tokens = 0 if self._done else self._model.count_text_tokens(asked.prompt)
        finished = CompletedEvent(
            b64_json=self._encoded(event.image),
            index=event.index,
            seed=event.seed,
            created_at=self._created_at,
            size=asked.size_text,
            output_format=asked.output_format,
            usage=Usage.of(text_tokens, IMAGE_TOKEN_COUNT),
        )
        return frame(finished.type, finished)

    def _encoded(self, image: Image.Image) -> str:
        return to_base64(self._asked.encode(image))


def preview_positions(count: int) -> list[int]:
    """Spread previews evenly over an image's tokens, as near as the engine's previews are: 2 come at 96 and 160 of 256."""
    steps = IMAGE_TOKEN_COUNT // PREVIEW_EVERY
    return [PREVIEW_EVERY * round(steps * (index + 1) / (count + 1)) for index in range(count)]
