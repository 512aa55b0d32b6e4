"""Serve a model over HTTP: `create_app` builds the Flask app, which any WSGI server can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from consts import MAX_BODY_BYTES
from server.classic import classic_routes
from server.cors import allow_any_origin
from server.errors import answer_errors
from server.request_ids import identify_requests
from server.settings import Settings

if TYPE_CHECKING:
    from dalle_model import DalleModel


def create_app(model: DalleModel, settings: Settings) -> Flask:
    """Build the app that serves `model`; the caller loads it, warms it up and closes it."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    identify_requests(app)
    allow_any_origin(app)
    answer_errors(app)
    app.register_blueprint(classic_routes(model, settings))
    return app
