"""OpenAI's models routes: the model that is loaded, and the names of OpenAI's, with which it draws too."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import Blueprint, Response

from server.api.errors import ModelNotFound
from server.api.openai.schemas import ModelCard, ModelList
from server.api.operation import JSON, OPENAI, Operation, Reply, described

if TYPE_CHECKING:
    from dalle_model import DalleModel


# For clients that let a person choose from a list.
_ALIASES = ("dall-e-2", "dall-e-3", "gpt-image-1")


def openai_model_routes(model: DalleModel) -> Blueprint:
    """Build `GET /v1/models` and `GET /v1/models/<id>`."""
    blueprint = Blueprint("openai_models", __name__)
    created = int(time.time())
    loaded = ModelCard(id=model.name, created=created, owned_by="dalle")
    cards = [loaded, *(ModelCard(id=name, created=created, owned_by=f"alias of {model.name}") for name in _ALIASES)]

    @blueprint.get("/v1/models")
    @described(Operation(OPENAI, "List the model that is loaded", {200: Reply("The model and its aliases.", {JSON: ModelList})}))
    def models() -> Response:
        """List the model that is loaded and its aliases."""
        return Response(ModelList(data=cards).model_dump_json(), mimetype="application/json")

    # A name with a slash arrives here as a path, sent raw or as %2F.
    @blueprint.get("/v1/models/<path:model_id>")
    @described(
        Operation(
            OPENAI,
            "Describe the model that is loaded, or an alias",
            {200: Reply("The model.", {JSON: ModelCard})},
            (404,),
            parameters={"model_id": "its name, in any case"},
        )
    )
    def one_model(model_id: str) -> Response:
        """Describe the model that is loaded, or an alias, by its name in any case."""
        wanted = model_id.removesuffix("/").casefold()
        for card in cards:
            if card.id.casefold() == wanted:
                return Response(card.model_dump_json(), mimetype="application/json")
        raise ModelNotFound(f"The model {model_id!r} is not loaded. {loaded.id} is, and draws whatever model a request names.")

    # Not documented: for a base URL without /v1.
    blueprint.add_url_rule("/models", "models_elsewhere", lambda: models())
    blueprint.add_url_rule("/models/<path:model_id>", "one_model_elsewhere", lambda model_id: one_model(model_id))
    return blueprint
