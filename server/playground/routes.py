"""The playground's routes: the page at `/playground`, its files, and the facts about the model that it needs.

Nothing on the page comes from another host, and its content policy makes the browser enforce that.
"""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from flask import Blueprint, Response, abort, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from consts import EXAMPLE_PROMPTS, ImageFormat, ModelSize
from server.config.settings import Settings
from server.playground.surprises import surprises

if TYPE_CHECKING:
    from dalle_model import DalleModel

_FOLDER = Path(__file__).parent / "static"
_PAGE = "page.html"

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Cached, but revalidated before each use, so that no old script runs against a newer server.
    "Cache-Control": "no-cache",
}

_ANYTHING = "It draws anything that a short English sentence describes. Faces and writing are not its strength."
# The page shows text between backticks as code.
_ABOUT = {
    ModelSize.TINY: "Tiny is loaded: it draws some 660 things, in a moment. For pictures of anything, start the "
    "server with DALL·E Mini: `make serve MODEL=Mini` (its first start downloads 1.1 GB).",
    ModelSize.MINI: f"DALL·E Mini is loaded. {_ANYTHING}",
    ModelSize.MEGA: f"DALL·E Mega is loaded. {_ANYTHING}",
    ModelSize.MEGA_FULL: f"DALL·E Mega is loaded, in full precision. {_ANYTHING}",
}


@dataclass(frozen=True)
class _File:
    """A file of the page, as it is sent."""

    data: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> _File:
        data = path.read_bytes()
        media_type = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0]
        return cls(data, media_type or "application/octet-stream", hashlib.sha256(data).hexdigest()[:32])


def playground_routes(model: DalleModel, settings: Settings) -> Blueprint:
    """Return the playground's routes for a model."""
    blueprint = Blueprint("playground", __name__)
    files = {path.name: _File.read(path) for path in sorted(_FOLDER.iterdir())}

    @blueprint.get("/playground")
    def page() -> Response:
        """Send the page."""
        return _send(files[_PAGE])

    @blueprint.get("/playground/")
    def page_with_slash() -> AnyResponse:
        """Redirect to the page's only address, because its links are relative to that."""
        return redirect("../playground", 308)

    @blueprint.get("/playground/<name>")
    def file(name: str) -> Response:
        """Send one of the page's files."""
        if name not in files or name == _PAGE:
            abort(404)
        return _send(files[name])

    @blueprint.get("/playground/model.json")
    def describe_model() -> Response:
        """Send the facts that the page needs: the model, its examples and default settings, and the server's limits."""
        size = ModelSize(model.name)
        return jsonify(
            model=model.name,
            about=_ABOUT[size],
            examples=EXAMPLE_PROMPTS[size],
            surprises=surprises(model.known_words.groups if model.known_words else {}, Random()),
            sampling=asdict(model.sampling),
            max_images=settings.images_per_request,
            formats=[image_format.value for image_format in ImageFormat],
            img_format=settings.img_format.value,
        )

    @blueprint.after_request
    def protect(response: Response) -> Response:
        """Add the headers that keep the browser to the page's own host."""
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
