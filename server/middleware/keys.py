"""API keys: required wherever images are drawn, unless the settings have none."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from flask import Flask, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized
from werkzeug.routing import Rule

from server.config.settings import Settings
from server.middleware.callers import name_caller_by_key

# The first parts of paths that need no key: health, the page and the API's description. Links to images need none either, because
# their names cannot be guessed. Every other route needs a key, also a new route that is not listed here.
_OPEN = frozenset({"", "health", "playground", "openapi.json", "docs"})
_OPEN_LINKS = "/images/<"
_METRICS = "metrics"
_KEY_HEADERS = ("X-API-Key", "api-key")  # the second is Azure's


class Keys:
    """A set of keys, kept as digests: the time of a comparison reveals neither a key nor its length."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __contains__(self, key: str) -> bool:
        """Return whether a key is in the set, after comparing it with all of them."""
        digest, is_known = _digest(key), False
        for known in self._digests:
            is_known |= hmac.compare_digest(known, digest)
        return is_known


def require_keys(app: Flask, settings: Settings) -> None:
    """Make an app answer 401 on every route that needs a key and gets none, or a wrong one."""
    if not settings.api_keys:
        return
    keys = Keys(settings.api_keys)

    def check() -> None:
        # Without a rule there is nothing to protect: Flask answers 404 or 405.
        if request.url_rule is None or request.method == "OPTIONS" or not needs_key(request.url_rule, settings):
            return
        given = _given_keys()
        known = [key for key in given if key in keys]
        if not known:
            said = "The API key is wrong" if given else "An API key is required"
            raise Unauthorized(
                f"{said}: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
                www_authenticate=WWWAuthenticate("bearer", {"realm": "dalle"}),
            )
        name_caller_by_key(known[0])

    app.before_request(check)


def needs_key(rule: Rule, settings: Settings) -> bool:
    """Return whether requests to a route must have a key."""
    part = rule.rule.split("/")[1]
    is_open = part in _OPEN or rule.rule.startswith(_OPEN_LINKS) or (part == _METRICS and settings.open_metrics)
    return bool(settings.api_keys) and not is_open


def _given_keys() -> list[str]:
    """Return the keys in the request's headers: a bearer token, a name or password of basic authentication, or a header."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    basic = request.authorization
    name_and_password = [] if basic is None else [basic.username or "", basic.password or ""]
    headers = (request.headers.get(name, "").strip() for name in _KEY_HEADERS)
    return [key for key in (bearer, *name_and_password, *headers) if key]


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
