"""CORS: which web pages may read answers, errors included."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flask import Flask, Response, request
from flask_cors import CORS

_METHODS = "GET, POST, OPTIONS"
_EXPOSED = "Retry-After, X-Request-Id"
_PREFLIGHT_SECONDS = 3600
_ANY = ("*",)
CORS_EXTENSION = "dalle_cors"  # an app's policy, which waitress needs for its own answers


@dataclass(frozen=True)
class CorsPolicy:
    """The origins whose pages may read answers: `("*",)` is all of them."""

    origins: tuple[str, ...]

    @property
    def allows_all(self) -> bool:
        """Whether pages of every origin may read."""
        return self.origins == _ANY

    def headers(self, origin: str | None) -> list[tuple[str, str]]:
        """Return the headers of an answer that is not the app's. `origin` is None if the client is not a web page."""
        vary = [] if self.allows_all else [("Vary", "Origin")]
        if not self.allows_all and origin not in self.origins:
            return vary
        allowed = "*" if self.allows_all else str(origin)
        return [*vary, ("Access-Control-Allow-Origin", allowed), ("Access-Control-Expose-Headers", _EXPOSED)]


def allow_origins(app: Flask, policy: CorsPolicy) -> None:
    """Add CORS to every answer of an app. Pages of the policy's origins may send any header."""

    def answer_preflight() -> Response | None:
        """Answer a preflight for any path: a browser that gets a 404 here does not show its page the real answer."""
        return Response(status=204) if _is_preflight() else None

    def complete(response: Response) -> Response:
        """Add what flask-cors leaves out."""
        if not policy.allows_all:
            response.vary.add("Origin")  # also without a match: a cache must not hand one origin's answer to another
        if _is_preflight() and "Access-Control-Allow-Origin" in response.headers:
            # Echoed unchanged, and for HEAD too. flask-cors sorts the list, and omits it for methods that need no permission.
            response.headers["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "*")
        return response

    app.extensions[CORS_EXTENSION] = policy
    app.before_request(answer_preflight)
    app.after_request(complete)  # before CORS(), as Flask calls the last one first
    CORS(
        app,
        # Patterns, because flask-cors ignores case in plain text, and sends the whole list to clients without an origin.
        origins="*" if policy.allows_all else [re.compile(rf"{re.escape(origin)}\Z") for origin in policy.origins],
        methods=_METHODS,
        expose_headers=_EXPOSED,
        max_age=_PREFLIGHT_SECONDS,
        allow_private_network=True,
        send_wildcard=True,
        vary_header=False,
    )


def _is_preflight() -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
