"""Write one line in the log for each request."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from flask import Flask, Response, g, request

from server.middleware.request_ids import when_sent

log = logging.getLogger("dalle.requests")


def log_requests(app: Flask, with_prompts: bool) -> None:
    """Register with an app, after the ids: a line when a request is answered, with its prompt only where that is asked for."""
    app.before_request(_begin)

    def end(response: Response) -> Response:
        fields: dict[str, Any] = {"method": request.method, "path": request.path, "status": response.status_code}
        if with_prompts and "prompt" in g:
            fields["prompt"] = g.prompt
        begun = begun_at()
        when_sent(response, lambda: _write(fields, begun))
        return response

    app.after_request(end)


def note_prompt(prompt: str) -> None:
    """Tell what the request being served asks for; it is logged only where `--log_prompts` says so."""
    g.prompt = prompt


def begun_at() -> float:
    """Return when the request being served began, by `time.perf_counter`."""
    return float(g.begun_at)


def _begin() -> None:
    g.begun_at = time.perf_counter()


def _write(fields: dict[str, Any], begun: float) -> None:
    # No query: what people ask for is not the log's business.
    milliseconds = round(1000 * (time.perf_counter() - begun))
    line = f"{fields['method']} {fields['path']} {fields['status']} in {milliseconds} ms"
    if "prompt" in fields:
        line += f" prompt={json.dumps(fields['prompt'], ensure_ascii=False)}"
    log.info("%s", line, extra={"fields": {**fields, "milliseconds": milliseconds}})
