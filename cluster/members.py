"""All replicas, as the front knows them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection

from cluster.kind import Kind
from cluster.member import Call, Member
from cluster.messages import Report
from engine.batching.job import Job
from engine.errors import first_line

_log = logging.getLogger(__name__)


class Members:
    """The replicas that run, or still finish what they draw. They change on the front's loop; any thread may read them."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._lock = threading.Lock()
        self._last_open = time.monotonic()

    def update(self, names: Collection[str]) -> list[Member]:
        """Note the names of the replicas that run; return the new ones."""
        with self._lock:
            new = [Member(name) for name in names if name not in self._members]
            for member in self._members.values():
                member.is_listed = member.name in names
            self._members.update({member.name: member for member in new})
        return new

    def discard(self, member: Member) -> None:
        """Forget a replica that has stopped."""
        with self._lock:
            if self._members.get(member.name) is member:
                del self._members[member.name]

    def hear(self, member: Member, report: Report) -> None:
        """Note a replica's report; it may be sent images."""
        with self._lock:
            member.report, member.is_responding = report, True
            self._last_open = time.monotonic()

    def shut(self, member: Member, error: BaseException) -> None:
        """Send a replica nothing until it reports again."""
        if member.is_responding:
            _log.warning("machine %s does not answer (%s: %s)", member.name, type(error).__name__, first_line(error))
        with self._lock:
            member.is_responding = False

    @property
    def open(self) -> list[Member]:
        """Those that may be sent images."""
        with self._lock:
            return [member for member in self._members.values() if member.is_open]

    @property
    def kinds(self) -> set[Kind]:
        """The kinds of those that may be sent images."""
        return {member.kind for member in self.open if member.kind is not None}

    @property
    def batch_limit(self) -> int:
        """How many images they draw at once; those that may be sent no more, only what they draw already."""
        with self._lock:
            members = list(self._members.values())
        return sum(max(member.in_use, member.capacity if member.is_open else 0) for member in members)

    @property
    def seconds_without(self) -> float:
        """How long there has been no replica that may be sent images; 0 while there is one."""
        return 0.0 if self.open else time.monotonic() - self._last_open

    def calls_of(self, job: Job) -> list[Call]:
        """Return the calls that draw a request."""
        with self._lock:
            members = list(self._members.values())
        return [call for member in members for call in member.calls if call.job is job]
