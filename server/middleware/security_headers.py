"""Tell browsers to take every answer for what it says it is."""

from __future__ import annotations

from flask import Flask, Response


def secure_answers(app: Flask) -> None:
    """Register with an app: no answer's type is guessed from its bytes."""
    app.after_request(_secure)


def _secure(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
