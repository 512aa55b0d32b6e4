"""Clients that close the connection while their images are drawn."""

from __future__ import annotations

from flask import request


def is_gone() -> bool:
    """Return whether the client of the current request has closed the connection.

    Waitress knows it, because `build_server` lets it read on while a request is served. Other WSGI servers do not say; there the
    result is False.
    """
    is_disconnected = request.environ.get("waitress.client_disconnected")
    return bool(is_disconnected and is_disconnected())
