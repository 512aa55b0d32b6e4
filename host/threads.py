"""The number of threads to compute with: the cores that this process may use, in a container fewer than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_QUOTAS = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))


def usable_threads(requested: int = 0, quotas: tuple[Path, Path] = _CGROUP_QUOTAS) -> int:
    """Return `requested` if it is above 0, else the number of cores that this process may run on, within its cgroup's CPU quota.

    More threads than the quota allows wait for each other: once the quota is used up, the system stops all of them.
    """
    if requested > 0:
        return requested
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _quota(*quotas) or cores)


def _quota(version_2: Path, version_1: Path) -> int | None:
    """Read the cgroup's quota in whole cores, rounded down but at least 1; None if there is no quota."""
    try:
        if version_2.exists():
            quota, period = version_2.read_text().split()
        else:
            quota, period = version_1.read_text(), version_1.with_name("cpu.cfs_period_us").read_text()
        return max(1, int(quota) // int(period)) if quota != "max" and int(quota) > 0 else None
    except (OSError, ValueError):
        return None
