"""Say which web pages may read answers: CORS on every answer, errors included."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask, Response, request

_METHODS = "GET, POST, OPTIONS"
_PREFLIGHT_SECONDS = 3600
_ANY = ("*",)
CORS_EXTENSION = "dalle_cors"  # where an app keeps its policy, for what answers beside the app


@dataclass(frozen=True)
class CorsPolicy:
    """Hold the origins whose pages may read answers: `("*",)` is all of them."""

    origins: tuple[str, ...]

    def allows(self, origin: str | None) -> bool:
        """Tell whether a page of `origin` may read; None is a caller that is no page."""
        return self.origins == _ANY or origin in self.origins

    def headers(self, origin: str | None) -> list[tuple[str, str]]:
        """Return the headers that tell the browser so."""
        # A cache must not hand one origin's answer to another.
        vary = [] if self.origins == _ANY else [("Vary", "Origin")]
        if not self.allows(origin):
            return vary
        allowed = "*" if self.origins == _ANY else str(origin)
        exposed = ("Access-Control-Expose-Headers", "Retry-After, X-Request-Id")
        return [*vary, ("Access-Control-Allow-Origin", allowed), exposed]


def allow_origins(app: Flask, policy: CorsPolicy) -> None:
    """Register CORS with an app: the policy's origins, and for them any header in a preflight."""

    def answer_preflight() -> Response | None:
        """Answer a preflight for any path, so that a page gets to read a 404 too."""
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        response = Response(status=204)
        response.headers.pop("Content-Type")
        if policy.allows(request.headers.get("Origin")):
            response.headers["Access-Control-Allow-Methods"] = _METHODS
            # Echoed, as the wildcard leaves out Authorization and old browsers don't know it.
            response.headers["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "*")
            response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
        response.vary.add("Access-Control-Request-Headers")
        return response

    def allow(response: Response) -> Response:
        for name, value in policy.headers(request.headers.get("Origin")):
            if name == "Vary":
                response.vary.add(value)
            else:
                response.headers[name] = value
        return response

    app.extensions[CORS_EXTENSION] = policy
    app.before_request(answer_preflight)
    app.after_request(allow)
