"""The files and connections that the process may have open, and how many it needs."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

from consts import LEAST_CONNECTIONS, SPARE_FILES, START_FILES

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

_REMEDY = "raise the limit (ulimit -n; --ulimit nofile of a container; LimitNOFILE of a systemd unit)"

_log = logging.getLogger("dalle.serving")


def why_too_few_files() -> str | None:
    """Return one line with the number that is needed if the system allows too few open files, None if it allows enough.

    Before the model is loaded, its files are estimated; afterwards they are counted.
    """
    needed = _other_files() + LEAST_CONNECTIONS
    allowed = _raise_limit(needed)
    return None if allowed >= needed else f"the server needs {needed} open files, and the system allows {allowed}: {_REMEDY}"


def available_connections(wanted: int) -> int:
    """Raise the limit of open files for `wanted` connections; return how many fit. Logs a warning if not all do."""
    others = _other_files()
    allowed = _raise_limit(wanted + others)
    if allowed >= wanted + others:
        return wanted
    connections = max(allowed - others, LEAST_CONNECTIONS)
    _log.warning(
        "the system allows %d open files, enough for %d connections; for all %d, %s to %d",
        *(allowed, connections, wanted, _REMEDY, wanted + others),
    )
    return connections


def _other_files() -> int:
    """Return the files that the process needs in addition to its connections."""
    return max(START_FILES, open_files()) + SPARE_FILES


def open_files() -> int:
    """Return how many files and sockets the process has open; 0 if the system has no list of them."""
    try:
        return len(os.listdir("/dev/fd")) - 1  # the list itself
    except OSError:
        return 0


def _raise_limit(wanted: int) -> int:
    """Raise the limit of open files to `wanted` if it is lower, as far as the system allows; return the limit."""
    if resource is None:
        return sys.maxsize
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # macOS has a limit of its own beside the hard one
            resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
