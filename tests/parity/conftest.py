"""Importing min-dalle without side effects, before the tests import `MinDalle` itself."""

from __future__ import annotations

import engine.upstream.modules  # noqa: F401
