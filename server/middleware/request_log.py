"""The request log: one line per request."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from flask import Flask, Response, g, request

from server.middleware.request_ids import when_sent

log = logging.getLogger("dalle.requests")


def log_requests(app: Flask, with_prompts: bool) -> None:
    """Log a line for each answer of an app, with the prompt only if `with_prompts`. Register after the ids."""
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
    """Note the prompt of the current request. It is logged only with `--log_prompts`."""
    g.prompt = prompt


def begun_at() -> float:
    """Return when the current request began, by `time.perf_counter`."""
    return float(g.begun_at)


def _begin() -> None:
    g.begun_at = time.perf_counter()


def _write(fields: dict[str, Any], begun: float) -> None:
    # Without the query, which may hold what a person wants to draw.
    milliseconds = round(1000 * (time.perf_counter() - begun))
    line = f"{fields['method']} {fields['path']} {fields['status']} in {milliseconds} ms"
    if "prompt" in fields:
        line += f" prompt={json.dumps(fields['prompt'], ensure_ascii=False)}"
    log.info("%s", line, extra={"fields": {**fields, "milliseconds": milliseconds}})
