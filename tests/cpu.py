"""What this machine's CPU can run of what the tests try."""

from __future__ import annotations

import pytest

from engine.runners.native.library import missing_instructions

MISSING = missing_instructions()
needs_native = pytest.mark.skipif(bool(MISSING), reason=f"the decoder in C can't run here: this CPU lacks {', '.join(MISSING)}")


def skip_unless_it_runs(kind: str) -> None:
    """Skip a test of a kind of runner that this CPU can't run."""
    if kind == "native" and MISSING:
        pytest.skip(needs_native.kwargs["reason"])
