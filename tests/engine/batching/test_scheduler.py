"""The scheduler, without a model: which images are in the batch, in which rows, and which leave."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batching.job import Job, Prompt, Slot, SlotState
from engine.batching.scheduler import MAX_RETRY_SECONDS, NO_LIMITS, CallerShare, Scheduler
from engine.errors import CallerQueueFull, InvalidRequest, QueueFull
from engine.events import Queued
from engine.request import DrawingRequest


def job_of(count: int, caller: str | None = None) -> Job:
    return Job(DrawingRequest("a circle", tuple(range(count))), [Prompt([0, 2])] * count, caller=caller)


def scheduler_of(batch_size: int, *jobs: Job, max_queue: int | None = None, share: CallerShare = NO_LIMITS) -> Scheduler:
    """Return a scheduler with some jobs, after the first images were admitted."""
    scheduler = Scheduler(batch_size, max_queue, share)
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


def test_turns_go_round_callers_then_round_the_requests_of_each() -> None:
    floods = [job_of(2, "ann"), job_of(1, "ann"), job_of(1, "ann")]
    bob, nameless = job_of(2, "bob"), job_of(1)
    scheduler = scheduler_of(8, *floods, bob, nameless)
    first, second, third = floods
    assert scheduler.running == [
        first.slots[0], bob.slots[0], nameless.slots[0], second.slots[0], bob.slots[1], third.slots[0], first.slots[1]
    ]  # fmt: skip


def test_who_has_a_place_reported_gets_it_in_turn() -> None:
    floods = [job_of(1, "ann") for _ in range(3)]
    scheduler = scheduler_of(1, *floods)
    bob = job_of(1, "bob")
    scheduler.add(bob)
    for _ in range(3):
        retire(scheduler, lambda slot: True)
        scheduler.admit()
    assert reported_places(bob) == [2, 1, 0]
    assert reported_places(floods[2]) == [2, 3, 2, 1, 0]


def test_a_callers_share_of_the_batch_leaves_room_for_others() -> None:
    flood = [job_of(1, "ann") for _ in range(5)]
    scheduler = scheduler_of(4, *flood, share=CallerShare(batch=3))
    assert [slot.job for slot in scheduler.running] == flood[:3]
    late, nameless = job_of(1, "bob"), job_of(5)
    scheduler.add(late)
    scheduler.add(nameless)
    assert scheduler.admit() == late.slots
    retire(scheduler, lambda slot: slot.job is flood[0])
    assert scheduler.admit() == [flood[3].slots[0]]
    assert nameless.slots[0] not in scheduler.running
    retire(scheduler, lambda slot: True)
    scheduler.admit()
    assert [slot.job for slot in scheduler.running] == [nameless, flood[4], nameless, nameless]


def test_a_single_request_may_have_more_than_its_callers_share_of_the_batch() -> None:
    single, next_one, other = job_of(5, "ann"), job_of(1, "ann"), job_of(1, "bob")
    scheduler = scheduler_of(4, single, share=CallerShare(batch=2))
    assert scheduler.running == single.slots[:4]
    retire(scheduler, lambda slot: slot.index > 0)
    scheduler.add(next_one)
    scheduler.add(other)
    assert scheduler.admit() == [single.slots[4], other.slots[0]]
    retire(scheduler, lambda slot: slot.job is single and slot.index == 0)
    assert scheduler.admit() == next_one.slots


def test_a_caller_fills_its_share_of_the_queue_and_no_more() -> None:
    scheduler = scheduler_of(4, *(job_of(1, "ann") for _ in range(5)), max_queue=4, share=CallerShare(batch=2, queue=3))
    with pytest.raises(CallerQueueFull) as refused:
        scheduler.check_room(1, 0.1, "ann")
    assert refused.value.retry_after == 26
    scheduler.check_room(3, 0.1, "bob")
    with pytest.raises(QueueFull) as full:
        scheduler.check_room(4, 0.1, "bob")
    assert not isinstance(full.value, CallerQueueFull)
    with pytest.raises(InvalidRequest, match="holds 5 images at most"):
        scheduler.check_room(6, 0.1, "cyd")
    scheduler.check_room(3, 0.1)


def test_a_share_of_the_batch_above_its_size_is_the_whole_batch() -> None:
    scheduler = scheduler_of(1, job_of(4, "ann"), max_queue=4, share=CallerShare(batch=10, queue=3))
    with pytest.raises(CallerQueueFull):
        scheduler.check_room(1, 0.1, "ann")


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


CALLERS = st.sampled_from([None, "ann", "bob"])


@given(
    st.lists(st.tuples(st.integers(1, 5), CALLERS, st.sets(st.integers(0, 20))), max_size=12),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_no_image_is_lost_and_every_move_is_reported(
    script: list[tuple[int, str | None, set[int]]], batch_size: int, share: int
) -> None:
    scheduler = Scheduler(batch_size, share=CallerShare(batch=share))
    added: list[Slot] = []
    gone: list[Slot] = []
    jobs: list[Job] = []
    for count, caller, leaving_rows in script:
        job = job_of(count, caller)
        added += job.slots
        jobs.append(job)
        scheduler.add(job)
        scheduler.admit()
        before = list(scheduler.running)
        assert len(before) <= batch_size
        for name in ("ann", "bob"):
            own = [slot.job for slot in before if slot.job.caller == name]
            assert len(own) <= share or len(set(own)) == 1
        leaving = [slot for row, slot in enumerate(before) if row in leaving_rows]
        order = retire(scheduler, leaving.__contains__)
        gone += leaving
        if order is not None:
            assert scheduler.running == [before[row] for row in order]
    assert {*map(id, added)} == {*map(id, gone), *map(id, scheduler.running), *(id(slot) for job in jobs for slot in job.waiting)}
    assert scheduler.waiting_count == sum(len(job.waiting) for job in jobs)


def test_the_limits_of_the_queue_count_a_models_own_candidates_as_one_image() -> None:
    scheduler = Scheduler(2, 3, CallerShare(queue=2))
    scheduler.best_of = 4
    assert scheduler.queue_limit == 12
    scheduler.check_room(3, 1.0, best_of=4)
    scheduler.check_room(2, 1.0, "ann", best_of=4)
    for images, caller in ((4, None), (3, "ann")):
        with pytest.raises(InvalidRequest, match=r"holds 1[40] images at most"):
            scheduler.check_room(images, 1.0, caller, best_of=4)
