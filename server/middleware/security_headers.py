"""Security headers."""

from __future__ import annotations

from flask import Flask, Response


def secure_answers(app: Flask) -> None:
    """Forbid browsers to guess the type of an app's answers from their bytes."""
    app.after_request(_secure)


def _secure(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
