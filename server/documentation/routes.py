"""The API's description: `/openapi.json` for programs, `/docs` for people. Neither loads anything from another host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Flask, Response, redirect, render_template
from werkzeug.wrappers import Response as BaseResponse

from consts import VERSION
from server.config.settings import Settings
from server.documentation.openapi import build_document

_INFO = {
    "title": "DALL·E server",
    "version": VERSION,
    "summary": "Draws pictures from prompts: OpenAI's Images API, and the DALL-E playground's.",
    "license": {"name": "MIT", "identifier": "MIT"},
}
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
# The page is text with one style sheet inside: no script runs there.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class _Row:
    """A field as `/docs` shows it."""

    name: str
    is_required: bool
    accepted: str
    description: str


def documentation_routes(app: Flask, settings: Settings) -> Blueprint:
    """Build both routes. They describe the routes that are registered with the app by now, so build them last."""
    blueprint = Blueprint("docs", __name__, template_folder="templates")
    document = build_document(app, settings, _INFO, _KEYS)
    in_json = json.dumps(document, ensure_ascii=False)

    @blueprint.get("/openapi.json")
    def openapi() -> Response:
        """Send the OpenAPI document."""
        return Response(in_json, mimetype="application/json")

    @blueprint.get("/docs")
    def docs() -> Response:
        """Send the page, which shows the same document."""
        page = render_template("docs.html", document=document, rows=_rows, name_of=_name_of)
        return Response(page, mimetype="text/html", headers=_PAGE_HEADERS)

    @blueprint.get("/docs/")
    def docs_with_slash() -> BaseResponse:
        """Redirect an address with one slash too many."""
        return redirect("../docs", 308)

    def _rows(reference: dict[str, Any]) -> Iterator[_Row]:
        schema = document["components"]["schemas"][_name_of(reference)]
        for name, described in schema["properties"].items():
            yield _Row(name, name in schema.get("required", []), _accepted(described), described.get("description", ""))

    return blueprint


def _name_of(reference: dict[str, Any]) -> str:
    """Return the name of the model that a reference points to."""
    return str(reference["$ref"].rsplit("/", 1)[1])


def _accepted(described: dict[str, Any]) -> str:
    """Return in words what a schema accepts."""
    if "$ref" in described:
        return _name_of(described)
    if "anyOf" in described:
        return " or ".join(_accepted(choice) for choice in described["anyOf"] if choice.get("type") != "null")
    if "const" in described:
        return json.dumps(described["const"])
    if "enum" in described:
        return " or ".join(json.dumps(value) for value in described["enum"] if value is not None)
    kinds = described.get("type", "anything")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "array":
        return f"list of {_accepted(described['items'])}"
    return f"{kind}{_bounds(described)}"


def _bounds(described: dict[str, Any]) -> str:
    """Return the limits of a value in words."""
    for unit, least, most in (("", "minimum", "maximum"), (" characters", "minLength", "maxLength")):
        if least in described and most in described:
            return f", {described[least]} to {described[most]}{unit}"
        if least in described:
            return f", at least {described[least]}{unit}"
    return ""
