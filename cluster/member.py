"""The front's view of a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.kind import Kind
from cluster.messages import About, Report
from cluster.remote_job import RemoteJob
from engine.batching.job import Slot, SlotState


@dataclass(eq=False)
class Call:
    """Images of one request that a replica draws."""

    job: RemoteJob
    indices: tuple[int, ...]  # in the request; the replica counts from 0
    task: asyncio.Task[None] | None = None

    @property
    def unfinished(self) -> Sequence[Slot]:
        """The slots whose picture has not come."""
        return self.job.unfinished(self.indices)

    @property
    def decoding_count(self) -> int:
        """How many slots it occupies."""
        return sum(slot.state is SlotState.DECODING for slot in self.unfinished)


@dataclass(eq=False)
class Member:
    """A replica: what it is, its last report, what it draws, and whether it may be sent more."""

    name: str
    about: About | None = None  # None until it has said
    report: Report | None = None  # None before the first
    is_listed: bool = True  # False once it is to stop: it finishes what it draws
    is_responding: bool = False
    calls: set[Call] = field(default_factory=set)

    @property
    def is_open(self) -> bool:
        """Whether it may be sent images."""
        return self.is_listed and self.is_responding

    @property
    def kind(self) -> Kind | None:
        """Its kind of machine, if it has said."""
        return None if self.about is None else self.about.kind

    @property
    def in_use(self) -> int:
        """How many images it draws."""
        return sum(call.decoding_count for call in self.calls)

    @property
    def capacity(self) -> int:
        """How many images it draws at once."""
        return self.report.state.batch_limit if self.report is not None else 0
