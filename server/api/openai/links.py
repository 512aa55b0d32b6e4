"""Links to images: the URLs in an answer with `response_format: url`, and `GET /images/<name>`, where they lead."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from consts import ImageFormat
from server.api.operation import OPENAI, Operation, Reply, described
from server.images.link_store import LinkStore


def links_to(store: LinkStore, public_url: str | None, images: Sequence[bytes], image_format: ImageFormat) -> list[str]:
    """Keep an answer's encoded images and return their URLs, below `public_url` or the address of the current request."""
    base = (public_url or request.url_root).rstrip("/")
    return [f"{base}/images/{name}" for name in store.keep(images, image_format)]


def image_link_routes(store: LinkStore, url_ttl: int) -> Blueprint:
    """Build `GET /images/<name>`. Links work for `url_ttl` seconds."""
    blueprint = Blueprint("image_links", __name__)
    # The store drops expired images only when it is used. Every request sweeps it, and supervisors keep asking for /health.
    blueprint.before_app_request(store.expire)

    @blueprint.get("/images/<name>")
    @described(
        Operation(
            OPENAI,
            "Fetch an image that was answered as a URL",
            {200: Reply("The image.", {f"image/{image_format.value}": None for image_format in ImageFormat})},
            (404,),
            description=f"Works for {url_ttl} seconds, and needs no key.",
            parameters={"name": "from the URL"},
        )
    )
    def image(name: str) -> Response:
        """Send an image while it is kept."""
        found = store.find(name)
        if found is None:
            raise NotFound("There is no image at this link: it has expired, or never existed.")
        response = Response(found.data, mimetype=found.media_type)
        response.headers["Cache-Control"] = f"private, max-age={found.seconds_left}, immutable"
        response.set_etag(name)
        response.make_conditional(request)
        return response

    return blueprint
