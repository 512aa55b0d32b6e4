"""The processes of a running cluster, by Linux's /proc."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or not Path("/proc/self/stat").exists(),
    reason="needs Linux and Ray: `make test-cluster` installs it",
)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return 0


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, directly or not."""
    for path in Path("/proc").glob("[0-9]*"):
        ancestor = int(path.name)
        while ancestor > 1 and ancestor != pid:
            ancestor = _parent(ancestor)
        if ancestor == pid and int(path.name) != pid:
            yield int(path.name)


def title(pid: int) -> str:
    """Return a process's command line; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def replicas_of(pid: int) -> list[int]:
    """Return the replicas of a server."""
    return sorted(each for each in descendants(pid) if title(each).startswith("ray::ServeReplica"))


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs if pair)}


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """Return the addresses, as hexadecimal digits, and the ports on which processes accept TCP connections."""
    own = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                own.add(target[8:-1])
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    found = (row[1].partition(":") for row in rows if row[3] == "0A" and row[9] in own)
    return {(address, int(port, 16)) for address, _, port in found}
