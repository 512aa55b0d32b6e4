"""Serve the classic API: `GET /`, `POST /dalle`, and `POST /generate`, the same route's later name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request
from PIL import Image

from consts import ImageFormat
from server.disconnects import is_gone
from server.image_metadata import describe, encode_with_metadata
from server.request_log import note_prompt
from server.schemas import DalleAnswer, DalleRequest, parse_dalle_request
from server.settings import Settings
from server.storage import Storage
from utils import encode_image, make_grid, to_base64

if TYPE_CHECKING:
    from dalle_model import DalleModel, Drawing


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
        """Draw what a text says; answers when all images are done."""
        asked = parse_dalle_request(request.get_data(cache=False), settings.max_images)
        note_prompt(asked.text)
        drawing = model.draw(
            asked.text,
            asked.num_images,
            seed=asked.seed,
            temperature=asked.temperature,
            top_k=asked.top_k,
            supercondition_factor=asked.supercondition_factor,
            seamless=asked.seamless,
            is_cancelled=is_gone,
        )
        pictures = [make_grid(drawing.images)] if asked.grid else drawing.images
        image_format = asked.img_format or settings.img_format
        warnings = _save(storage, pictures, drawing, asked, image_format) if storage else []
        in_base64 = [to_base64(encode_image(picture, image_format)) for picture in pictures]
        answer = DalleAnswer(
            generatedImgs=in_base64,
            generatedImages=in_base64,
            generatedImgsFormat=image_format,
            seeds=drawing.seeds,
            model=model.name,
            warnings=warnings or None,
        )
        return Response(answer.model_dump_json(exclude_none=True), mimetype="application/json")

    def _save(
        storage: Storage, pictures: list[Image.Image], drawing: Drawing, asked: DalleRequest, image_format: ImageFormat
    ) -> list[str]:
        descriptions = describe(drawing, len(pictures), asked.text, model.name, asked.seamless)
        encoded = [
            encode_with_metadata(picture, image_format, said) for picture, said in zip(pictures, descriptions, strict=True)
        ]
        return storage.save_or_warn(encoded, image_format.value, asked.text)

    return blueprint
