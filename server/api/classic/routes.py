"""The classic routes: `GET /`, `POST /dalle`, and `POST /generate`, the same route's later name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response
from pydantic import BaseModel

from server.api.answers import answer_drawing
from server.api.body import read_request
from server.api.classic.answer import DalleWriter
from server.api.classic.schemas import (
    DalleAnswer,
    DalleRequest,
    DoneEvent,
    ImageEvent,
    PreviewEvent,
    ProgressEvent,
    QueuedEvent,
)
from server.api.drawing_body import with_image_limit
from server.api.error_bodies import ClassicErrorBody
from server.api.operation import CLASSIC, DRAWING_ERRORS, JSON, STREAMED, Operation, Reply, described
from server.config.settings import Settings
from server.images.output_folder import OutputFolder
from server.middleware.callers import caller
from server.middleware.request_log import note_prompt

if TYPE_CHECKING:
    from dalle_model import DalleModel

_EVENTS: dict[str, type[BaseModel]] = {
    "queued": QueuedEvent,
    "progress": ProgressEvent,
    "preview": PreviewEvent,
    "image": ImageEvent,
    "done": DoneEvent,
    "error": ClassicErrorBody,
}
_DESCRIPTION = (
    "The body is read as JSON whatever its content type; unknown fields are ignored, and null means the same as leaving a field "
    f"out. {STREAMED}"
)


def classic_routes(model: DalleModel, settings: Settings, folder: OutputFolder | None) -> Blueprint:
    """Build the classic routes. Without a folder nothing is saved."""
    blueprint = Blueprint("classic", __name__)
    body_model = with_image_limit(DalleRequest, "num_images", settings.images_per_request)

    @blueprint.get("/")
    @described(Operation(CLASSIC, "Check that the server is running", {200: Reply("hello world", {"text/plain": None})}))
    def hello() -> Response:
        """Return a fixed text, by which old clients check that the server is running."""
        return Response("hello world", mimetype="text/plain")

    @blueprint.post("/dalle")
    @blueprint.post("/generate")
    @described(
        Operation(
            CLASSIC,
            "Draw images from a text",
            {200: Reply("The images; with `stream`, events while they are drawn.", {JSON: DalleAnswer}, _EVENTS)},
            DRAWING_ERRORS,
            description=_DESCRIPTION,
            body=body_model,
        )
    )
    def dalle() -> Response:
        """Draw images from a text; answer when all are done, or with `stream` while they are drawn."""
        body = read_request(body_model)
        note_prompt(body.text)
        drawing = model.start(body.drawing_request(model.sampling), caller())
        warnings = [*body.warnings, *model.prompt_warnings(body.text)]
        writer = DalleWriter(drawing, body, body.img_format or settings.img_format, folder, warnings)
        return answer_drawing(drawing, writer, body.stream)

    return blueprint
