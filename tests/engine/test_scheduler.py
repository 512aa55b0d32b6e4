"""Hold the scheduler: who is in the batch, in which row, and who leaves. No model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.job import Job, Slot
from engine.request import ImageRequest
from engine.scheduler import Scheduler


def job_of(count: int) -> Job:
    return Job(ImageRequest("a circle", tuple(range(count))), [0, 2])


def test_admits_first_come_first_served_up_to_the_batch_size() -> None:
    scheduler = Scheduler(3)
    first, second = job_of(2), job_of(2)
    scheduler.add(first)
    scheduler.add(second)
    assert scheduler.admit() == [*first.slots, second.slots[0]]
    assert scheduler.admit() == []
    assert list(scheduler.waiting) == [second.slots[1]]


def test_retire_fills_holes_from_the_end() -> None:
    scheduler = Scheduler(4)
    job = job_of(4)
    scheduler.add(job)
    scheduler.admit()
    assert scheduler.retire(lambda slot: slot.index == 1) == [0, 3, 2]
    assert [slot.index for slot in scheduler.running] == [0, 3, 2]
    assert scheduler.retire(lambda slot: False) is None


def test_drop_forgets_waiting_images_only() -> None:
    scheduler = Scheduler(1)
    job, other = job_of(2), job_of(1)
    scheduler.add(job)
    scheduler.add(other)
    scheduler.admit()
    scheduler.drop(job)
    assert scheduler.running == [job.slots[0]]
    assert list(scheduler.waiting) == other.slots


def test_clear_returns_every_job_once() -> None:
    scheduler = Scheduler(2)
    jobs = [job_of(3), job_of(1)]
    for job in jobs:
        scheduler.add(job)
    scheduler.admit()
    assert scheduler.clear() == jobs
    assert not scheduler.has_work


@pytest.mark.parametrize("size", [0, -1])
def test_refuses_a_batch_without_room(size: int) -> None:
    with pytest.raises(ValueError, match="max_batch_size"):
        Scheduler(size)


@given(st.lists(st.tuples(st.integers(1, 5), st.sets(st.integers(0, 20))), max_size=12), st.integers(1, 6))
def test_no_image_is_lost_or_moved_without_notice(script: list[tuple[int, set[int]]], batch_size: int) -> None:
    scheduler = Scheduler(batch_size)
    added: list[Slot] = []
    gone: list[Slot] = []
    for count, leaving_rows in script:
        job = job_of(count)
        added += job.slots
        scheduler.add(job)
        scheduler.admit()
        before = list(scheduler.running)
        assert len(before) <= batch_size
        leaving = [slot for row, slot in enumerate(before) if row in leaving_rows]
        order = scheduler.retire(lambda slot, leaving=leaving: slot in leaving)  # type: ignore[misc]
        gone += leaving
        if order is not None:
            assert scheduler.running == [before[row] for row in order]
    assert {*map(id, added)} == {*map(id, gone), *map(id, scheduler.running), *map(id, scheduler.waiting)}
