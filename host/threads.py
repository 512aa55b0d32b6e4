"""How many threads to compute with: what this process may use, which in a container is less than what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_QUOTAS = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))


def usable_threads(asked: int = 0, quotas: tuple[Path, Path] = _CGROUP_QUOTAS) -> int:
    """Return `asked` if it is above 0, else the cores that this process may run on, within its cgroup's quota of CPU time.

    More threads than that wait for each other: a container with a quota stops all of them once it is used up.
    """
    if asked > 0:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _quota(*quotas) or cores)


def _quota(version_2: Path, version_1: Path) -> int | None:
    """Read the cgroup's quota in whole cores, rounded down but at least one; None where there is none."""
    try:
        if version_2.exists():
            quota, period = version_2.read_text().split()
        else:
            quota, period = version_1.read_text(), version_1.with_name("cpu.cfs_period_us").read_text()
        return max(1, int(quota) // int(period)) if quota != "max" and int(quota) > 0 else None
    except (OSError, ValueError):
        return None
