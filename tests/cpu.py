"""Which runners this machine can run."""

from __future__ import annotations

import pytest

from engine.runners.native.instructions import missing_instructions
from engine.runners.native.library import NativeUnavailable, find_compiler


def _why_not_native() -> str | None:
    missing = missing_instructions()
    if missing:
        return f"the native decoder can't run here: this CPU lacks {missing}"
    try:
        find_compiler()
    except NativeUnavailable as error:
        return f"the native decoder can't run here: {error}; Debian: apt-get install gcc libc6-dev"
    return None


WHY_NOT_NATIVE = _why_not_native()
needs_native = pytest.mark.skipif(WHY_NOT_NATIVE is not None, reason=str(WHY_NOT_NATIVE))


def skip_unless_it_runs(kind: str) -> None:
    """Skip the test if this machine can't run a kind of runner."""
    if kind == "native" and WHY_NOT_NATIVE is not None:
        pytest.skip(WHY_NOT_NATIVE)
