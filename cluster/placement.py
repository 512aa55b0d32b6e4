"""Which replica draws an image: the one with the most free slots, of the kind that draws the rest of its request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.member import Call, Member
from cluster.remote_job import RemoteJob
from engine.batching.job import Slot


def place(admitted: Sequence[Slot], members: Sequence[Member]) -> list[tuple[Member, Call]]:
    """Choose a replica for each admitted image; those of one request on one replica make one call, which the member has then."""
    images: dict[tuple[Member, RemoteJob], list[int]] = {}
    more: dict[Member, int] = {}  # images that are about to be sent
    for job, indices, count in _units(admitted):
        alike = [member for member in members if member.kind == job.kind]
        member = max(alike or members, key=lambda each: each.capacity - each.in_use - more.get(each, 0))
        job.kind = member.kind
        more[member] = more.get(member, 0) + count
        images.setdefault((member, job), []).extend(indices)
    calls = [(member, Call(job, tuple(indices))) for (member, job), indices in images.items()]
    for member, call in calls:
        member.calls.add(call)
        call.job.sent.update(call.indices)
    return calls


def _units(slots: Sequence[Slot]) -> Iterator[tuple[RemoteJob, list[int], int]]:
    """Yield what one replica must draw of the admitted slots: a job, the indices of its images, how many slots."""
    at = 0
    while at < len(slots):
        job = slots[at].job
        assert isinstance(job, RemoteJob)
        own = slots[at : at + job.together]
        yield job, sorted({slot.index for slot in own}), len(own)
        at += job.together
