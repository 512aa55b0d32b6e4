"""Serve OpenAI's list of models: the one that is loaded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import Blueprint, Response

from server.api.errors import ModelNotFound
from server.api.openai.schemas import ModelCard, ModelList

if TYPE_CHECKING:
    from dalle_model import DalleModel


def openai_model_routes(model: DalleModel) -> Blueprint:
    """Build `GET /v1/models` and `GET /v1/models/<id>`."""
    blueprint = Blueprint("openai_models", __name__)
    card = ModelCard(id=model.name, created=int(time.time()), owned_by="dalle")

    @blueprint.get("/v1/models")
    def models() -> Response:
        """List the model that is loaded."""
        return Response(ModelList(data=[card]).model_dump_json(), mimetype="application/json")

    # Names with a slash come raw or as %2F, and both arrive here as a path.
    @blueprint.get("/v1/models/<path:model_id>")
    def one_model(model_id: str) -> Response:
        """Describe the model that is loaded, by its name in any case."""
        if model_id.casefold() != card.id.casefold():
            raise ModelNotFound(
                f"The model {model_id!r} is not loaded here; {card.id} is, and draws whatever name a request has for it."
            )
        return Response(card.model_dump_json(), mimetype="application/json")

    return blueprint
