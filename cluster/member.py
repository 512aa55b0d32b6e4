"""The front's view of a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.messages import Report
from cluster.remote_job import RemoteJob
from engine.batching.job import Slot, SlotState


@dataclass(eq=False)
class Call:
    """Images of one request that a replica draws."""

    job: RemoteJob
    indices: tuple[int, ...]  # in the request; the replica counts from 0
    task: asyncio.Task[None] | None = None

    @property
    def unfinished(self) -> list[Slot]:
        """The slots whose picture has not come."""
        slots = dict.fromkeys(slot for index in self.indices for slot in self.job.slots_of(index))
        return [slot for slot in slots if slot.state in (SlotState.DECODING, SlotState.DECODED)]

    @property
    def decoding_count(self) -> int:
        """How many slots it occupies."""
        return sum(slot.state is SlotState.DECODING for slot in self.unfinished)


@dataclass(eq=False)
class Member:
    """A replica: its last report, what it draws, and whether it may be sent more."""

    name: str
    report: Report | None = None  # None before the first
    is_listed: bool = True  # False once it is to stop: it finishes what it draws
    is_responding: bool = False
    calls: set[Call] = field(default_factory=set)

    @property
    def is_open(self) -> bool:
        """Whether it may be sent images."""
        return self.is_listed and self.is_responding

    @property
    def in_use(self) -> int:
        """How many images it draws."""
        return sum(call.decoding_count for call in self.calls)

    @property
    def capacity(self) -> int:
        """How many images it draws at once."""
        return self.report.state.batch_limit if self.report is not None else 0


def freest(members: Sequence[Member], more: dict[Member, int]) -> Member:
    """Return the member with the most free slots, `more` being images that are about to be sent."""
    return max(members, key=lambda member: member.capacity - member.in_use - more.get(member, 0))
