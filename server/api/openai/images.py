"""OpenAI's images routes: `POST /v1/images/generations`. Edits and variations are not supported, and say so."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NoReturn

from flask import Blueprint, Response, request
from pydantic import BaseModel

from server.api.answers import answer_drawing
from server.api.body import read_request
from server.api.drawing_body import with_image_limit
from server.api.error_bodies import OpenAIErrorEvent
from server.api.errors import NotSupported
from server.api.openai.answer import ImagesWriter
from server.api.openai.links import links_to
from server.api.openai.schemas import CompletedEvent, ImagesAnswer, ImagesRequest, PartialImageEvent
from server.api.operation import DRAWING_ERRORS, JSON, OPENAI, STREAMED, Operation, Reply, described
from server.config.settings import Settings
from server.images.link_store import LinkStore
from server.images.output_folder import OutputFolder
from server.middleware.callers import caller
from server.middleware.request_log import note_prompt

if TYPE_CHECKING:
    from dalle_model import DalleModel

_EVENTS: dict[str, type[BaseModel]] = {
    "image_generation.partial_image": PartialImageEvent,
    "image_generation.completed": CompletedEvent,
    "error": OpenAIErrorEvent,
}


def openai_image_routes(model: DalleModel, settings: Settings, folder: OutputFolder | None, store: LinkStore) -> Blueprint:
    """Build the image routes. Without a folder nothing is saved; `store` keeps images that are answered as URLs."""
    blueprint = Blueprint("openai_images", __name__)
    body_model = with_image_limit(ImagesRequest, "n", settings.images_per_request)

    @blueprint.post("/v1/images/generations")
    @described(
        Operation(
            OPENAI,
            "Draw images from a prompt",
            {200: Reply("The images; with `stream`, events while they are drawn.", {JSON: ImagesAnswer}, _EVENTS)},
            DRAWING_ERRORS,
            description=STREAMED,
            body=body_model,
        )
    )
    def generate(deployment: str | None = None) -> Response:
        """Draw images from a prompt; answer when all are done, or with `stream` while they are drawn."""
        body = read_request(body_model)
        if body.model is None and deployment is not None:
            body = body.model_copy(update={"model": deployment})
        note_prompt(body.prompt)
        drawing = model.start(body.drawing_request(model.sampling), caller())
        text_tokens = model.count_text_tokens(body.prompt)
        warnings = [*body.warnings, *model.prompt_warnings(body.prompt, text_tokens)]
        writer = ImagesWriter(drawing, body, text_tokens, folder, warnings, partial(links_to, store, settings.public_url))
        return answer_drawing(drawing, writer, body.stream)

    # Not documented: for a base URL without /v1, and for Azure's clients, whose path names the deployment.
    @blueprint.post("/images/generations")
    @blueprint.post("/openai/v1/images/generations")
    @blueprint.post("/openai/deployments/<deployment>/images/generations")
    def generate_elsewhere(deployment: str | None = None) -> Response:
        """Draw images from a prompt, as `/v1/images/generations` does."""
        return generate(deployment)

    @blueprint.post("/images/edits")
    @blueprint.post("/images/variations")
    def not_supported_elsewhere() -> NoReturn:
        """Answer 400 with the route to use instead."""
        not_supported()

    @blueprint.post("/v1/images/edits")
    @blueprint.post("/v1/images/variations")
    @described(Operation(OPENAI, "Edit or vary an image: not supported", {}, (400,)))
    def not_supported() -> NoReturn:
        """Answer 400 with the route to use instead."""
        raise NotSupported(
            f"{request.path} is not supported: {model.name} draws from a prompt alone, and takes no image. "
            "Draw with POST /v1/images/generations."
        )

    return blueprint
