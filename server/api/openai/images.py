"""Serve OpenAI's Images API: POST /v1/images/generations; edits and variations say that they are not served."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotImplemented as NotImplementedHere

from dalle_model import IMAGE_TOKEN_COUNT, InvalidRequest
from server.api.disconnects import is_gone
from server.api.event_stream import TICK_SECONDS, stream_events
from server.api.openai.schemas import ImageItem, ImagesAnswer, ImagesRequest, Usage, parse_images_request
from server.api.openai.stream import ImagesWriter, preview_positions
from server.config.settings import Settings
from server.images.links import ImageKeeper, links_to
from server.images.output_folder import Storage
from server.images.saving import save_pictures
from server.middleware.request_log import note_prompt
from utils import to_base64

if TYPE_CHECKING:
    from dalle_model import DalleModel


def openai_image_routes(model: DalleModel, settings: Settings, storage: Storage | None, keeper: ImageKeeper) -> Blueprint:
    """Build the image routes for a model; without a storage nothing is saved."""
    blueprint = Blueprint("openai_images", __name__)

    @blueprint.post("/v1/images/generations")
    def generate() -> Response:
        """Draw what a prompt says; answers when all images are done, or with `stream` while they are drawn."""
        asked = parse_images_request(request.get_data(cache=False), settings.max_images)
        note_prompt(asked.prompt)
        try:
            return _stream(asked) if asked.stream else _draw(asked)
        except InvalidRequest as error:
            raise _in_openais_words(error) from None

    @blueprint.post("/v1/images/edits")
    @blueprint.post("/v1/images/variations")
    def not_served() -> NoReturn:
        """Say what is served instead."""
        raise NotImplementedHere(
            f"{request.path} is not served: {model.name} draws from a prompt alone, and takes no image. "
            "Draw with POST /v1/images/generations."
        )

    def _draw(asked: ImagesRequest) -> Response:
        drawing = model.draw(asked.prompt, asked.n, **asked.sampling(), is_cancelled=is_gone)
        warnings = save_pictures(storage, model.name, drawing, drawing.images, asked.prompt, asked.output_format, size=asked.size)
        encoded = [asked.encode(image) for image in drawing.images]
        answer = ImagesAnswer(
            created=int(time.time()),
            data=_items(asked, encoded, drawing.seeds),
            output_format=asked.output_format,
            size=asked.size_text,
            usage=Usage.of(model.count_text_tokens(asked.prompt), IMAGE_TOKEN_COUNT * asked.n),
            warnings=warnings or None,
        )
        return Response(answer.model_dump_json(exclude_none=True), mimetype="application/json")

    def _items(asked: ImagesRequest, encoded: list[bytes], seeds: list[int]) -> list[ImageItem]:
        if asked.response_format == "url":
            urls = links_to(keeper, settings, encoded, asked.output_format)
            return [ImageItem(url=url, seed=seed) for url, seed in zip(urls, seeds, strict=True)]
        return [ImageItem(b64_json=to_base64(data), seed=seed) for data, seed in zip(encoded, seeds, strict=True)]

    def _stream(asked: ImagesRequest) -> Response:
        previews = preview_positions(asked.partial_images)
        events = model.stream(asked.prompt, asked.n, **asked.sampling(), previews=previews, tick=TICK_SECONDS)
        return stream_events(events, ImagesWriter(model, storage, asked))

    return blueprint


def _in_openais_words(error: InvalidRequest) -> InvalidRequest:
    """Name the field of a request that the engine refuses as this route's callers know it."""
    if error.field != "num_images":
        return error
    return InvalidRequest("n", error.message.replace("num_images", "n", 1))
