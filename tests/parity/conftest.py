"""Import min-dalle in the way that leaves the process as it was, before the tests import `MinDalle` itself."""

from __future__ import annotations

import engine.upstream  # noqa: F401
