"""Which images are in the running batch, and which are next. Pure Python: no tensor passes through here."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import ceil, inf

from engine.batching.job import Job, Slot, SlotState
from engine.errors import CallerQueueFull, InvalidRequest, QueueFull
from engine.request import IMAGE_TOKEN_COUNT

MAX_RETRY_SECONDS = 120  # the longest wait that OpenAI's client accepts


@dataclass(frozen=True)
class CallerShare:
    """The most images of one caller in the batch and in the queue. A single request may have more in the batch."""

    batch: float = inf
    queue: float = inf


NO_LIMITS = CallerShare()


def steps_left(slot: Slot) -> int:
    """Return how many tokens of an image are still to be drawn."""
    return IMAGE_TOKEN_COUNT - slot.position


class Scheduler:
    """A batch of bounded size and the queue before it.

    Images join in turn: the turn goes round the callers, and for each caller round its requests. Images leave at any step.
    A request without a caller's name has turns of its own and no share.
    """

    def __init__(
        self,
        max_batch_size: int,
        max_queue: int | None = None,
        share: CallerShare = NO_LIMITS,
        steps_left: Callable[[Slot], int] = steps_left,
    ) -> None:
        """`max_queue` is how many images may wait; None sets no limit. `steps_left` serves to estimate when there is room."""
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size is {max_batch_size}, but must be at least 1")
        self.batch_limit = max_batch_size  # lower once memory has run out
        self.share = share
        self.best_of = 1  # how many candidates the limits of the queue count as one image: the model's own number
        self.running: list[Slot] = []
        self._max_batch_size, self._max_queue = max_batch_size, max_queue
        self._steps_left = steps_left
        self._queue: dict[Hashable, deque[Job]] = {}  # callers' jobs with images that wait, those whose turn it is first

    @property
    def waiting_count(self) -> int:
        """How many images wait."""
        return sum(len(job.waiting) for jobs in self._queue.values() for job in jobs)

    @property
    def queue_limit(self) -> int | None:
        """How many candidates may wait; None: any number."""
        return None if self._max_queue is None else self._max_queue * self.best_of

    @property
    def has_work(self) -> bool:
        """Whether any image waits or is in the batch."""
        return bool(self._queue or self.running)

    def check_room(self, images: int, seconds_per_step: float, caller: str | None = None, best_of: int = 1) -> None:
        """Check that there is room for `images` more images of a caller, `best_of` candidates each.

        Raises QueueFull with the seconds until there is room, estimated by `seconds_per_step`: CallerQueueFull if only the
        caller's own share is full. Raises InvalidRequest if there can never be room for so many.
        """
        queue = inf if self.queue_limit is None else self.queue_limit
        share = NO_LIMITS if caller is None else self.share
        queue_share = share.queue * self.best_of
        count = images * best_of
        own_batch = min(share.batch, self._max_batch_size)
        most = own_batch + min(queue_share, queue)
        if count > most:
            field, asked = "num_images", f"num_images is {count}"
            if best_of > 1:
                field, asked = "best_of", f"best_of for each of {images} images makes {count}"
            raise InvalidRequest(field, f"{asked}, but this server holds {most} images at most: ask for fewer at once")
        own: Hashable = object() if caller is None else caller
        held = self._running_by_caller()
        held.update({name: sum(len(job.waiting) for job in jobs) for name, jobs in self._queue.items()})
        held[own] += count
        in_batch = sum(min(images, self._batch_share(name)) for name, images in held.items())
        excess = held.total() - min(in_batch, self._max_batch_size) - queue
        if excess > 0:
            seconds = self._steps_until_left(int(excess), self.running, self.batch_limit) * seconds_per_step
            raise QueueFull(_bounded(seconds))
        excess = held[own] - min(held[own], own_batch) - queue_share
        if excess > 0:
            mine = [slot for slot in self.running if slot.job.caller == caller]
            seconds = self._steps_until_left(int(excess), mine, int(min(share.batch, self.batch_limit))) * seconds_per_step
            raise CallerQueueFull(_bounded(seconds))

    def _steps_until_left(self, count: int, running: Sequence[Slot], limit: int) -> int:
        """Return after how many steps `count` images have left a batch of `limit` that is kept full."""
        rounds, index = divmod(count - 1, limit)
        remaining = sorted(self._steps_left(slot) for slot in running)
        first = remaining[min(index, len(remaining) - 1)] if remaining else IMAGE_TOKEN_COUNT
        return rounds * IMAGE_TOKEN_COUNT + first

    def add(self, job: Job) -> None:
        """Queue all images of a job."""
        self._queue.setdefault(_caller(job), deque()).append(job)
        self._tell_places()

    def admit(self) -> list[Slot]:
        """Move waiting images to the end of the batch while there is room, one of each caller in turn; return them.

        Images that must join together do, even if the last of them are past the limits.
        """
        count = len(self.running)
        held = self._running_by_caller()
        while len(self.running) < self.batch_limit and (caller := self._next_caller(held)) is not None:
            jobs = self._queue.pop(caller)
            job = jobs.popleft()
            for _ in range(job.together):
                slot = job.waiting.popleft()
                slot.state = SlotState.DECODING
                self.running.append(slot)
                held[caller] += 1
            job.tell_place(0)
            if job.waiting:
                jobs.append(job)
            if jobs:
                self._queue[caller] = jobs  # behind the others
        if len(self.running) > count:
            self._tell_places()
        return self.running[count:]

    def retire(self) -> list[int] | None:
        """Remove images that are decoded or ended; the last ones fill the holes, so that few rows move.

        Return the new batch's rows as indices into the old one, or None if none left.
        """
        order = list(range(len(self.running)))
        row = 0
        while row < len(order):
            if self.running[order[row]].state is SlotState.DECODING:
                row += 1
                continue
            last = order.pop()
            if row < len(order):
                order[row] = last
        if len(order) == len(self.running):
            return None
        self.running = [self.running[i] for i in order]
        return order

    def requeue(self, slots: Sequence[Slot]) -> None:
        """Take images out of the batch and put them first in the queue, to be drawn again from the start."""
        self.running = [slot for slot in self.running if slot not in slots]
        for slot in sorted(slots, key=lambda slot: slot.index, reverse=True):
            slot.start_again()
            slot.job.waiting.appendleft(slot)
        for job in reversed(list(dict.fromkeys(slot.job for slot in slots))):
            jobs = self._queue.pop(_caller(job), deque())
            if job in jobs:
                jobs.remove(job)
            jobs.appendleft(job)
            self._queue = {_caller(job): jobs, **self._queue}
        self._tell_places()

    def drop(self, job: Job) -> None:
        """Remove the images of a job that still wait."""
        jobs = self._queue.get(_caller(job), ())
        if job in jobs:
            self._queue[_caller(job)].remove(job)
            if not self._queue[_caller(job)]:
                del self._queue[_caller(job)]
            job.waiting.clear()
            self._tell_places()

    def _running_by_caller(self) -> Counter[Hashable]:
        """Return how many images each caller has in the batch."""
        return Counter(_caller(slot.job) for slot in self.running)

    def _batch_share(self, caller: Hashable) -> float:
        """Return how many images a caller may have in the batch by several requests."""
        return inf if isinstance(caller, Job) else self.share.batch

    def _may_join(self, job: Job, held: Counter[Hashable]) -> bool:
        """Return whether an image of a job fits its caller's share of the batch, of which the caller holds so many."""
        caller = _caller(job)
        is_below = held[caller] < self._batch_share(caller)
        return is_below or all(slot.job is job for slot in self.running if _caller(slot.job) == caller)

    def _next_caller(self, held: Counter[Hashable]) -> Hashable | None:
        """Return the caller whose turn it is, of those whose next image fits their share of the batch."""
        return next((caller for caller, jobs in self._queue.items() if self._may_join(jobs[0], held)), None)

    def _in_turn(self) -> Iterator[Job]:
        """Yield the jobs of the queue in the order of their turns."""
        for jobs in zip_longest(*self._queue.values()):
            yield from (job for job in jobs if job is not None)

    def _tell_places(self) -> None:
        """Send each job without an image in the batch its place in the queue."""
        free, held, place = self.batch_limit - len(self.running), self._running_by_caller(), 0
        for job in self._in_turn():
            if free > 0 and self._may_join(job, held):
                free -= 1
                held[_caller(job)] += 1
            else:
                place += 1
            if len(job.waiting) == len(job.slots):
                job.tell_place(place)


def _caller(job: Job) -> Hashable:
    """Return whose turn a job takes: its caller's, or its own if the caller has no name."""
    return job if job.caller is None else job.caller


def _bounded(seconds: float) -> int:
    """Return seconds as clients accept them in Retry-After."""
    return min(max(1, ceil(seconds)), MAX_RETRY_SECONDS)
