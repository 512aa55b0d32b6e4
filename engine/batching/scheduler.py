"""Which images are in the running batch, and which are next. Pure Python: no tensor passes through here."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import ceil

from engine.batching.job import Job, Slot, SlotState
from engine.errors import InvalidRequest, QueueFull
from engine.request import IMAGE_TOKEN_COUNT

MAX_RETRY_SECONDS = 120  # the longest wait that OpenAI's client accepts


class Scheduler:
    """A batch of bounded size and the queue before it. Images join in turn, one of each waiting job, and leave at any step."""

    def __init__(self, max_batch_size: int, max_queue: int | None = None) -> None:
        """`max_queue` is how many images may wait; None sets no limit."""
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size is {max_batch_size}, but must be at least 1")
        self.batch_limit = max_batch_size  # lower once memory has run out
        self.max_queue = max_queue
        self.running: list[Slot] = []
        self._capacity = None if max_queue is None else max_batch_size + max_queue  # images
        self._queue: deque[Job] = deque()  # jobs with images that wait, next one first

    @property
    def waiting_count(self) -> int:
        """How many images wait."""
        return sum(len(job.waiting) for job in self._queue)

    @property
    def has_work(self) -> bool:
        """Whether any image waits or is in the batch."""
        return bool(self._queue or self.running)

    def check_room(self, count: int, seconds_per_step: float) -> None:
        """Check that there is room for `count` more images.

        Raises QueueFull with the seconds until there is room, estimated by `seconds_per_step`, and InvalidRequest if there can
        never be room for so many.
        """
        if self._capacity is None:
            return
        if count > self._capacity:
            raise InvalidRequest(
                "num_images",
                f"num_images is {count}, but this server holds {self._capacity} images at most: ask for fewer at once",
            )
        excess = len(self.running) + self.waiting_count + count - self._capacity
        if excess > 0:
            seconds = ceil(self._steps_until_left(excess) * seconds_per_step)
            raise QueueFull(min(max(1, seconds), MAX_RETRY_SECONDS))

    def _steps_until_left(self, count: int) -> int:
        """Return after how many steps `count` images have left a batch that is kept full."""
        rounds, index = divmod(count - 1, self.batch_limit)
        remaining = sorted(IMAGE_TOKEN_COUNT - slot.position for slot in self.running)
        first = remaining[min(index, len(remaining) - 1)] if remaining else IMAGE_TOKEN_COUNT
        return rounds * IMAGE_TOKEN_COUNT + first

    def add(self, job: Job) -> None:
        """Queue all images of a job."""
        self._queue.append(job)
        self._tell_places()

    def admit(self) -> list[Slot]:
        """Move waiting images to the end of the batch while there is room, one of each job in turn; return them."""
        count = len(self.running)
        while self._queue and len(self.running) < self.batch_limit:
            job = self._queue.popleft()
            slot = job.waiting.popleft()
            slot.state = SlotState.DECODING
            self.running.append(slot)
            job.tell_place(0)
            if job.waiting:
                self._queue.append(job)
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
        jobs = list(dict.fromkeys(slot.job for slot in slots))
        self.running = [slot for slot in self.running if slot not in slots]
        for slot in sorted(slots, key=lambda slot: slot.index, reverse=True):
            slot.tokens.clear()
            slot.state = SlotState.WAITING
            slot.job.waiting.appendleft(slot)
        self._queue = deque([*jobs, *(job for job in self._queue if job not in jobs)])
        self._tell_places()

    def drop(self, job: Job) -> None:
        """Remove the images of a job that still wait."""
        if job in self._queue:
            self._queue.remove(job)
            job.waiting.clear()
            self._tell_places()

    def _tell_places(self) -> None:
        """Send each job without an image in the batch its place in the queue."""
        free = self.batch_limit - len(self.running)
        for index, job in enumerate(self._queue):
            if len(job.waiting) == len(job.slots):
                job.tell_place(max(0, index + 1 - free))
