"""Let any web page call: CORS on every answer, errors included."""

from __future__ import annotations

from flask import Flask, Response, request

_METHODS = "GET, POST, OPTIONS"
_PREFLIGHT_SECONDS = 3600


def allow_any_origin(app: Flask) -> None:
    """Register CORS with an app: any origin, and in a preflight any header."""
    app.before_request(_answer_preflight)
    app.after_request(_allow)


def _answer_preflight() -> Response | None:
    """Answer a preflight for any path, so that a page gets to read a 404 too."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    response = Response(status=204)
    response.headers.pop("Content-Type")
    response.headers["Access-Control-Allow-Methods"] = _METHODS
    # Echoed, as the wildcard leaves out Authorization and old browsers don't know it.
    response.headers["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "*")
    response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
    response.vary.add("Access-Control-Request-Headers")
    return response


def _allow(response: Response) -> Response:
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-Id"
    return response
