"""The HTTP server: `create_app` builds the Flask app, which any WSGI server can run.

    api/            what programs call: a package for each dialect, and what the dialects share
    middleware/     what happens to every request: ids, log, CORS, API keys, rate limit, headers
    images/         what happens to finished images: scaling, encoding, metadata, saving, links
    config/         settings and the command line
    operations/     health, metrics, the log's format
    documentation/  OpenAPI and its page
    playground/     the page to draw on
    wsgi/           running the app with waitress

Imports Flask, and of the engine only what `dalle_model` exports. Never torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from consts import MAX_BODY_BYTES, MAX_LINKED_BYTES
from server.api.a1111.routes import a1111_routes
from server.api.classic.routes import classic_routes
from server.api.errors import answer_errors
from server.api.openai.images import openai_image_routes
from server.api.openai.links import image_link_routes
from server.api.openai.models import openai_model_routes
from server.config.settings import Settings
from server.documentation.routes import documentation_routes
from server.images.link_store import LinkStore
from server.images.output_folder import OutputFolder
from server.middleware.cors import CorsPolicy, allow_origins
from server.middleware.keys import require_keys
from server.middleware.rate_limit import limit_rate
from server.middleware.request_ids import identify_requests
from server.middleware.request_log import log_requests
from server.middleware.security_headers import secure_answers
from server.operations.health import health_routes
from server.operations.metrics import Metrics, measure_requests, metrics_routes
from server.playground.routes import playground_routes

if TYPE_CHECKING:
    from dalle_model import DalleModel


def create_app(model: DalleModel, settings: Settings, metrics: Metrics | None = None) -> Flask:
    """Build the app that serves a model. The caller loads the model, warms it up and closes it.

    `metrics` is the observer that the model was created with. Without it, only what the app itself does is measured.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.strict_slashes = False  # a path with a slash at its end is the same route
    metrics = metrics or Metrics()
    store = LinkStore(settings.url_ttl, MAX_LINKED_BYTES)
    folder = OutputFolder(settings.output_dir, settings.max_disk_bytes, metrics) if settings.save_to_disk else None
    metrics.watch(model, lambda: store.kept_bytes, lambda: 0.0 if folder is None else folder.used_ratio)
    if settings.trust_proxy:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_port=1, x_prefix=1)  # type: ignore[method-assign]
    identify_requests(app)
    log_requests(app, settings.log_prompts)
    measure_requests(app, metrics)
    secure_answers(app)
    allow_origins(app, CorsPolicy(settings.cors_origins))
    require_keys(app, settings)
    limit_rate(app, settings)
    answer_errors(app)
    app.register_blueprint(classic_routes(model, settings, folder))
    app.register_blueprint(a1111_routes(model, settings, folder))
    app.register_blueprint(playground_routes(model, settings))
    app.register_blueprint(openai_image_routes(model, settings, folder, store))
    app.register_blueprint(openai_model_routes(model))
    app.register_blueprint(image_link_routes(store, settings.url_ttl))
    app.register_blueprint(health_routes(model, settings.step_timeout))
    app.register_blueprint(metrics_routes(metrics))
    app.register_blueprint(documentation_routes(app, settings))
    return app
