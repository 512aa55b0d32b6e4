"""Notice a caller who has gone away while images are drawn for them."""

from __future__ import annotations

from flask import request


def is_gone() -> bool:
    """Tell whether the caller of the request being served has closed the connection.

    Waitress knows, as `build_server` lets it read on while a request is served; other WSGI servers don't say, and False is
    the answer there.
    """
    is_disconnected = request.environ.get("waitress.client_disconnected")
    return bool(is_disconnected and is_disconnected())
