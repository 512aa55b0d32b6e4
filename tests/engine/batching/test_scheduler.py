"""The scheduler, without a model: which images are in the batch, in which rows, and which leave."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batching.job import Job, Slot, SlotState
from engine.batching.scheduler import MAX_RETRY_SECONDS, Scheduler
from engine.errors import InvalidRequest, QueueFull
from engine.events import Queued
from engine.request import DrawingRequest


def job_of(count: int) -> Job:
    return Job(DrawingRequest("a circle", tuple(range(count))), [0, 2])


def scheduler_of(batch_size: int, *jobs: Job, max_queue: int | None = None) -> Scheduler:
    """Return a scheduler with some jobs, after the first images were admitted."""
    scheduler = Scheduler(batch_size, max_queue)
    for job in jobs:
        scheduler.add(job)
    scheduler.admit()
    return scheduler


def retire(scheduler: Scheduler, is_leaving: Callable[[Slot], bool]) -> list[int] | None:
    """Mark slots as drawn and retire them. Return the new order of the rows, or None if nothing changed."""
    for slot in scheduler.running:
        if is_leaving(slot):
            slot.state = SlotState.DECODED
    return scheduler.retire()


def reported_places(job: Job) -> list[int]:
    job.finish()
    return [event.position for event in job.events() if isinstance(event, Queued)]


def test_admits_one_image_of_each_job_in_turn_up_to_the_batch_size() -> None:
    many, few, one = job_of(5), job_of(2), job_of(1)
    scheduler = scheduler_of(4, many, few, one)
    assert scheduler.running == [many.slots[0], few.slots[0], one.slots[0], many.slots[1]]
    assert scheduler.admit() == []
    assert scheduler.waiting_count == 4
    retire(scheduler, lambda slot: True)
    assert scheduler.admit() == [few.slots[1], *many.slots[2:]]


def test_reports_each_jobs_place_until_its_first_image_is_admitted() -> None:
    scheduler = Scheduler(2)
    jobs = [job_of(2), job_of(3), job_of(1), job_of(1)]
    for job in jobs:
        scheduler.add(job)
    scheduler.drop(jobs[2])
    scheduler.admit()
    retire(scheduler, lambda slot: slot.job is jobs[0])
    scheduler.admit()  # jobs[0]'s second: it came first
    retire(scheduler, lambda slot: slot.job is jobs[0])
    scheduler.admit()
    assert [reported_places(job) for job in jobs] == [[0], [0], [1], [2, 1, 0]]


def test_accepts_as_many_images_as_fit_into_batch_and_queue() -> None:
    scheduler = Scheduler(2, 3)
    scheduler.check_room(5, 1.0)
    scheduler.add(job_of(4))
    scheduler.check_room(1, 1.0)
    with pytest.raises(QueueFull):
        scheduler.check_room(2, 1.0)
    with pytest.raises(InvalidRequest, match="holds 5 images at most") as refused:
        scheduler.check_room(6, 1.0)
    assert refused.value.field == "num_images"


@pytest.mark.parametrize(
    ("count", "seconds"),
    [(1, 6), (2, 16), (3, 26 + 6), (5, 2 * 26 + 6)],  # one image takes 25.6 s; two are running, 200 and 100 tokens done
)
def test_estimates_when_there_will_be_room(count: int, seconds: int) -> None:
    job = job_of(8)
    scheduler = scheduler_of(2, job, max_queue=6)
    for slot, position in zip(job.slots, (200, 100), strict=False):
        slot.tokens += [0] * position
    with pytest.raises(QueueFull) as refused:
        scheduler.check_room(count, 0.1)
    assert abs(refused.value.retry_after - seconds) <= 1


def test_the_estimate_is_never_0_and_never_hours() -> None:
    scheduler = scheduler_of(1, job_of(1), max_queue=0)
    for speed, seconds in ((0.0, 1), (1e-6, 1), (1000.0, MAX_RETRY_SECONDS)):
        with pytest.raises(QueueFull) as refused:
            scheduler.check_room(1, speed)
        assert refused.value.retry_after == seconds


def test_requeued_images_are_next_and_start_again() -> None:
    first, second = job_of(4), job_of(2)
    scheduler = scheduler_of(3, first, second)
    for slot in scheduler.running:
        slot.tokens += [1, 2, 3]
    scheduler.batch_limit = 2
    scheduler.requeue(list(scheduler.running))
    assert scheduler.running == []
    assert scheduler.admit() == [first.slots[0], second.slots[0]]
    assert scheduler.running[0].tokens == []
    assert scheduler.waiting_count == 4


def test_retire_fills_gaps_from_the_end() -> None:
    scheduler = scheduler_of(4, job_of(4))
    assert retire(scheduler, lambda slot: slot.index == 1) == [0, 3, 2]
    assert [slot.index for slot in scheduler.running] == [0, 3, 2]
    assert retire(scheduler, lambda slot: False) is None


def test_drop_removes_waiting_images_only() -> None:
    job, other = job_of(2), job_of(1)
    scheduler = scheduler_of(1, job, other)
    scheduler.drop(job)
    assert scheduler.running == [job.slots[0]]
    assert scheduler.waiting_count == 1
    retire(scheduler, lambda slot: True)
    assert scheduler.admit() == other.slots


@pytest.mark.parametrize("size", [0, -1])
def test_refuses_a_batch_size_below_1(size: int) -> None:
    with pytest.raises(ValueError, match="max_batch_size"):
        Scheduler(size)


@given(st.lists(st.tuples(st.integers(1, 5), st.sets(st.integers(0, 20))), max_size=12), st.integers(1, 6))
def test_no_image_is_lost_and_every_move_is_reported(script: list[tuple[int, set[int]]], batch_size: int) -> None:
    scheduler = Scheduler(batch_size)
    added: list[Slot] = []
    gone: list[Slot] = []
    jobs: list[Job] = []
    for count, leaving_rows in script:
        job = job_of(count)
        added += job.slots
        jobs.append(job)
        scheduler.add(job)
        scheduler.admit()
        before = list(scheduler.running)
        assert len(before) <= batch_size
        leaving = [slot for row, slot in enumerate(before) if row in leaving_rows]
        order = retire(scheduler, leaving.__contains__)
        gone += leaving
        if order is not None:
            assert scheduler.running == [before[row] for row in order]
    assert {*map(id, added)} == {*map(id, gone), *map(id, scheduler.running), *(id(slot) for job in jobs for slot in job.waiting)}
    assert scheduler.waiting_count == sum(len(job.waiting) for job in jobs)
