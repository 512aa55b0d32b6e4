"""OpenAI's answer to a drawing. Its stream has no events of ours: clients take an unknown event for an image."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from PIL import Image

from consts import ImageFormat
from dalle_model import IMAGE_TOKEN_COUNT, Drawing, Event, ImageDone, Preview
from server.api.answers import frame
from server.api.error_bodies import OpenAIErrorEvent
from server.api.errors import ErrorAnswer
from server.api.openai.schemas import CompletedEvent, ImageItem, ImagesAnswer, ImagesRequest, PartialImageEvent, Usage
from server.images.output_folder import OutputFolder, save_drawing
from utils import to_base64


class ImagesWriter:
    """The answer of `POST /v1/images/generations` for one drawing.

    Args:
        drawing: The drawing.
        body: The request's body.
        text_tokens: How many tokens of the prompt the model reads.
        folder: Where images are saved; None saves nothing.
        warnings: Those about the request.
        links_to: Keeps encoded images and returns their URLs.
    """

    def __init__(
        self,
        drawing: Drawing,
        body: ImagesRequest,
        text_tokens: int,
        folder: OutputFolder | None,
        warnings: Sequence[str],
        links_to: Callable[[Sequence[bytes], ImageFormat], list[str]],
    ) -> None:
        self._drawing, self._body, self._folder, self._links_to = drawing, body, folder, links_to
        self._text_tokens, self._warnings = text_tokens, warnings
        self._created_at = int(time.time())
        self._previews: Counter[int] = Counter()  # sent, by image

    def answer(self) -> ImagesAnswer:
        """Return the answer to a finished drawing, after saving it."""
        warnings = [*self._warnings, *self._save()]
        body = self._body
        return ImagesAnswer(
            created=int(time.time()),
            data=self._items([body.encode(image) for image in self._drawing.images]),
            output_format=body.output_format,
            size=body.size_text,
            usage=Usage.of(self._text_tokens, IMAGE_TOKEN_COUNT * body.n),
            warnings=warnings or None,
        )

    def write(self, event: Event) -> Iterator[bytes]:
        """Yield the server-sent event for a half-drawn or a finished image."""
        if isinstance(event, Preview):
            yield self._partial(event)
        elif isinstance(event, ImageDone):
            yield self._completed(event)

    def end(self) -> Iterator[bytes]:
        """Save the finished drawing. Clients know the end by the last image."""
        self._save()
        yield from ()

    def fail(self, answer: ErrorAnswer) -> bytes:
        """Return the event for an error, which a client raises."""
        return frame("error", OpenAIErrorEvent.model_validate(answer.body))

    def _items(self, encoded: list[bytes]) -> list[ImageItem]:
        seeds = self._drawing.seeds
        scores: Sequence[float | None] = self._drawing.scores or [None] * len(seeds)
        if self._body.has_urls:
            contents = [{"url": url} for url in self._links_to(encoded, self._body.output_format)]
        else:
            contents = [{"b64_json": to_base64(data)} for data in encoded]
        return [
            ImageItem(**content, seed=seed, score=score) for content, seed, score in zip(contents, seeds, scores, strict=True)
        ]

    def _save(self) -> list[str]:
        return save_drawing(self._folder, self._drawing, self._body.output_format, self._body.size)

    def _partial(self, event: Preview) -> bytes:
        partial = PartialImageEvent(
            b64_json=self._encoded(event.image),
            partial_image_index=self._previews[event.index],
            index=event.index,
            created_at=self._created_at,
            size=self._body.size_text,
            output_format=self._body.output_format,
        )
        self._previews[event.index] += 1
        return frame(partial.type, partial)

    def _completed(self, event: ImageDone) -> bytes:
        completed = CompletedEvent(
            b64_json=self._encoded(event.image),
            index=event.index,
            seed=event.seed,
            score=event.score,
            created_at=self._created_at,
            size=self._body.size_text,
            output_format=self._body.output_format,
            usage=Usage.of(self._text_tokens, IMAGE_TOKEN_COUNT),
            warnings=[*self._warnings] or None,
        )
        self._text_tokens, self._warnings = 0, ()  # the prompt is read once for all images, so it counts with the first
        return frame(completed.type, completed.model_dump(mode="json", exclude_none=True))

    def _encoded(self, image: Image.Image) -> str:
        return to_base64(self._body.encode(image))
