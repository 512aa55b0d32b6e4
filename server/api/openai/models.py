"""OpenAI's models routes: the one model that is loaded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import Blueprint, Response

from server.api.errors import ModelNotFound
from server.api.openai.schemas import ModelCard, ModelList
from server.api.operation import JSON, OPENAI, Operation, Reply, described

if TYPE_CHECKING:
    from dalle_model import DalleModel


def openai_model_routes(model: DalleModel) -> Blueprint:
    """Build `GET /v1/models` and `GET /v1/models/<id>`."""
    blueprint = Blueprint("openai_models", __name__)
    card = ModelCard(id=model.name, created=int(time.time()), owned_by="dalle")

    @blueprint.get("/v1/models")
    @described(Operation(OPENAI, "List the model that is loaded", {200: Reply("A list of one.", {JSON: ModelList})}))
    def models() -> Response:
        """List the model that is loaded."""
        return Response(ModelList(data=[card]).model_dump_json(), mimetype="application/json")

    # A name with a slash arrives here as a path, sent raw or as %2F.
    @blueprint.get("/v1/models/<path:model_id>")
    @described(
        Operation(
            OPENAI,
            "Describe the model that is loaded",
            {200: Reply("The model.", {JSON: ModelCard})},
            (404,),
            parameters={"model_id": "its name, in any case"},
        )
    )
    def one_model(model_id: str) -> Response:
        """Describe the model that is loaded, by its name in any case."""
        if model_id.casefold() != card.id.casefold():
            raise ModelNotFound(f"The model {model_id!r} is not loaded. {card.id} is, and draws whatever model a request names.")
        return Response(card.model_dump_json(), mimetype="application/json")

    return blueprint
