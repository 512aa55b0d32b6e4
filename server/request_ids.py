"""Give every request an id: in the answer's header, in the log, in the sentence of an internal error."""

from __future__ import annotations

import logging
import secrets
import time

from flask import Flask, Response, g, has_request_context, request

log = logging.getLogger("dalle.requests")


def request_id() -> str:
    """Name the request being served, `-` outside of one."""
    return str(g.request_id) if has_request_context() and "request_id" in g else "-"


def identify_requests(app: Flask) -> None:
    """Register with an app: an id for each request, and one line in the log when it is answered."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.request_id = secrets.token_hex(6)
    g.begun_at = time.perf_counter()


def _end(response: Response) -> Response:
    response.headers["X-Request-Id"] = request_id()
    # No prompt and no query: what people ask for is not the log's business.
    log.info("%s %s %d in %.0f ms", request.method, request.path, response.status_code, 1000 * (time.perf_counter() - g.begun_at))
    return response
