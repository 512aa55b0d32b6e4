"""Serve the classic API: `GET /`, `POST /dalle`, and `POST /generate`, the same route's later name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from server.api.classic.schemas import DalleAnswer, DalleRequest, parse_dalle_request
from server.api.classic.stream import DalleWriter
from server.api.disconnects import is_gone
from server.api.event_stream import TICK_SECONDS, stream_events
from server.config.settings import Settings
from server.images.encoding import encode
from server.images.output_folder import Storage
from server.images.saving import save_pictures
from server.middleware.request_log import note_prompt
from utils import make_grid, to_base64

if TYPE_CHECKING:
    from dalle_model import DalleModel


def classic_routes(model: DalleModel, settings: Settings, storage: Storage | None) -> Blueprint:
    """Build the classic routes for a model; without a storage nothing is saved."""
    blueprint = Blueprint("classic", __name__)

    @blueprint.get("/")
    def hello() -> Response:
        """Say that the server is there; old clients look for no more than that."""
        return Response("hello world", mimetype="text/plain")

    @blueprint.post("/dalle")
    @blueprint.post("/generate")
    def dalle() -> Response:
        """Draw what a text says; answers when all images are done, or with `stream` while they are drawn."""
        asked = parse_dalle_request(request.get_data(cache=False), settings.max_images)
        note_prompt(asked.text)
        return _stream(asked) if asked.stream else _draw(asked)

    def _draw(asked: DalleRequest) -> Response:
        drawing = model.draw(asked.text, asked.num_images, **asked.sampling(), seamless=asked.seamless, is_cancelled=is_gone)
        image_format = asked.img_format or settings.img_format
        pictures = [make_grid(drawing.images)] if asked.grid else drawing.images
        warnings = save_pictures(storage, model.name, drawing, pictures, asked.text, image_format, seamless=asked.seamless)
        in_base64 = [to_base64(encode(picture, image_format)) for picture in pictures]
        answer = DalleAnswer(
            generatedImgs=in_base64,
            generatedImages=in_base64,
            generatedImgsFormat=image_format,
            seeds=drawing.seeds,
            model=model.name,
            warnings=warnings or None,
        )
        return Response(answer.model_dump_json(exclude_none=True), mimetype="application/json")

    def _stream(asked: DalleRequest) -> Response:
        events = model.stream(
            asked.text,
            asked.num_images,
            **asked.sampling(),
            seamless=asked.seamless,
            previews=asked.previews,
            tick=TICK_SECONDS,
        )
        return stream_events(events, DalleWriter(model, storage, asked, asked.img_format or settings.img_format))

    return blueprint
