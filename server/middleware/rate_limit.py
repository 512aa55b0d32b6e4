"""A rate limit for each caller on the routes that draw, by Flask-Limiter."""

from __future__ import annotations

import re
from math import ceil
from time import time
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from server.config.settings import Settings
from server.middleware.callers import caller, note_refusal

if TYPE_CHECKING:
    from flask_limiter import RequestLimit

# flask_limiter is imported where it is used: it takes 0.1 s, and most servers start without a rate limit.

_DRAWING_RULE = re.compile(r"/dalle|/generate|/sdapi/v1/txt2img|/.*images/generations")
_IN_MEMORY = "memory://"
# A request does not wait longer for a storage that does not answer.
_STORAGE_OPTIONS = {"socket_timeout": 2, "socket_connect_timeout": 2}


def why_storage_is_unusable(settings: Settings) -> str | None:
    """Return one line with the reason and the remedy if the rate limit's storage does not answer, None if it does."""
    if settings.rate_limit is None or settings.rate_limit_storage == _IN_MEMORY:
        return None
    from limits.errors import ConfigurationError
    from limits.storage import storage_from_string

    try:
        is_answering = storage_from_string(settings.rate_limit_storage, **_STORAGE_OPTIONS).check()
    except ConfigurationError:
        return "--rate_limit_storage needs the package redis: pip install redis==8.1.0"
    except Exception:  # of the storage's own library
        is_answering = False
    return None if is_answering else "--rate_limit_storage does not answer: start it, or correct its address"


def limit_rate(app: Flask, settings: Settings) -> None:
    """Make an app answer 429 to a caller that starts drawings faster than the settings allow. Register after the keys.

    Without an answer from the storage, each process counts by itself until the storage is back.
    """
    if settings.rate_limit is None:
        return
    from flask_limiter import ApplicationLimit, Limiter

    message = f"The limit of drawings for each caller is {settings.rate_limit}: try again later."
    limiter = Limiter(
        caller,
        app=app,
        application_limits=[ApplicationLimit(settings.rate_limit, error_message=message)],
        strategy="moving-window",
        storage_uri=settings.rate_limit_storage,
        storage_options={} if settings.rate_limit_storage == _IN_MEMORY else {**_STORAGE_OPTIONS},
        in_memory_fallback_enabled=True,
        on_breach=_explain,
        key_prefix="dalle",
    )
    limiter.request_filter(_is_free)


def draws(rule: str) -> bool:
    """Return whether a route draws, by its rule."""
    return _DRAWING_RULE.fullmatch(rule) is not None


def _is_free() -> bool:
    return request.method != "POST" or request.url_rule is None or not draws(request.url_rule.rule)


def _explain(limit: RequestLimit) -> Response:
    """Return the answer whose headers the refusal gets."""
    note_refusal("rate")
    return Response(status=429, headers={"Retry-After": str(max(1, ceil(limit.window.reset_time - time())))})
