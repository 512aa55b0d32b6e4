"""Serve the page to play on: `/playground`, the files it is made of, and what it has to know of the model.

Nothing on it comes from another host, and the content policy holds the browser to that.
"""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Blueprint, Response, abort, current_app, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from consts import EXAMPLE_PROMPTS, ImageFormat, ModelSize
from server.config.settings import Settings

if TYPE_CHECKING:
    from dalle_model import DalleModel

_FOLDER = Path(__file__).parent / "static"
_PAGE = "page.html"

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Kept, but asked about before use: a server that was replaced has no old script running against it.
    "Cache-Control": "no-cache",
}

_ANYTHING = "It draws anything you can say in a short English sentence; faces and writing are not its strength."
# Between backticks stands a command.
_ABOUT = {
    ModelSize.TINY: "Tiny is loaded: it draws flat shapes in twelve colours, in a moment. For pictures of anything, start the "
    "server with DALL·E Mini: `make serve MODEL=Mini` (the first start downloads 1.1 GB).",
    ModelSize.MINI: f"DALL·E Mini is loaded. {_ANYTHING}",
    ModelSize.MEGA: f"DALL·E Mega is loaded. {_ANYTHING}",
    ModelSize.MEGA_FULL: f"DALL·E Mega is loaded, in full precision. {_ANYTHING}",
}


@dataclass(frozen=True)
class _File:
    """Hold one file of the page as it is sent."""

    data: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> _File:
        data = path.read_bytes()
        media_type = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0]
        return cls(data, media_type or "application/octet-stream", hashlib.sha256(data).hexdigest()[:32])


def playground_routes(model: DalleModel, settings: Settings) -> Blueprint:
    """Build the page's routes for a model."""
    blueprint = Blueprint("playground", __name__)
    files = {path.name: _File.read(path) for path in sorted(_FOLDER.iterdir())}

    @blueprint.get("/playground")
    def page() -> Response:
        """Send the page."""
        return _send(files[_PAGE])

    @blueprint.get("/playground/")
    def page_with_slash() -> AnyResponse:
        """Send to the page's one address: its links are relative to that."""
        return redirect("../playground", 308)

    @blueprint.get("/playground/<name>")
    def file(name: str) -> Response:
        """Send one of the page's files."""
        if name not in files or name == _PAGE:
            abort(404)
        return _send(files[name])

    @blueprint.get("/playground/model.json")
    def describe_model() -> Response:
        """Say what the page has to know: the model, examples, its own settings, the limits."""
        size = ModelSize(model.name)
        sampling = model.sampling
        return jsonify(
            model=model.name,
            about=_ABOUT[size],
            examples=EXAMPLE_PROMPTS[size],
            sampling={
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "supercondition_factor": sampling.supercondition_factor,
            },
            max_images=settings.images_per_request,
            formats=[image_format.value for image_format in ImageFormat],
            img_format=settings.img_format.value,
            docs="docs" if any(rule.rule == "/docs" for rule in current_app.url_map.iter_rules()) else None,
        )

    @blueprint.after_request
    def protect(response: Response) -> Response:
        """Hold the browser to the page's own host."""
        response.headers.update(_HEADERS)
        return response

    return blueprint


def _send(file: _File) -> Response:
    response = Response(file.data, content_type=_content_type(file.media_type))
    response.set_etag(file.etag)
    response.make_conditional(request)
    return response


def _content_type(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type
