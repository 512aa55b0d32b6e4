"""Ask for a key wherever images are drawn; where the settings hold none, everybody may draw."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable
from hashlib import sha256

from flask import Flask, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from server.config.settings import Settings

log = logging.getLogger("dalle.keys")

# The first parts of the paths that need no key: who is there, the page, what describes the server, and links to images, whose
# names can't be guessed. Every other route needs one, a new one too until it is named here.
_OPEN = frozenset({"", "health", "playground", "openapi.json", "docs"})
_OPEN_LINKS = "/images/<"
_METRICS = "metrics"


class Keys:
    """Hold keys as digests: comparing those tells neither a key nor its length by the time it takes."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __contains__(self, key: str) -> bool:
        """Tell whether a key is one of these, after comparing it with all of them."""
        digest, is_known = _digest(key), False
        for known in self._digests:
            is_known |= hmac.compare_digest(known, digest)
        return is_known


def require_keys(app: Flask, settings: Settings) -> None:
    """Register with an app: 401 on every route but the open ones, unless a key comes along."""
    if not settings.api_keys:
        return
    keys = Keys(settings.api_keys)
    open_parts = _OPEN | {_METRICS} if settings.open_metrics else _OPEN

    def check() -> None:
        # Without a rule there is nothing to lock: Flask answers 404 or 405.
        if request.url_rule is None or request.method == "OPTIONS" or _is_open(request.url_rule.rule, open_parts):
            return
        given = _given_keys()
        if not any([key in keys for key in given]):
            said = "The key is not one of this server's" if given else "A key is needed here"
            raise Unauthorized(
                f"{said}: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
                www_authenticate=WWWAuthenticate("bearer", {"realm": "dalle"}),
            )

    app.before_request(check)


def _is_open(rule: str, open_parts: frozenset[str]) -> bool:
    return rule.split("/")[1] in open_parts or rule.startswith(_OPEN_LINKS)


def _given_keys() -> list[str]:
    """Read the keys that came along; a bearer token goes first."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return [key for key in (bearer, request.headers.get("X-API-Key", "").strip()) if key]


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
