"""Who is in the running batch, and who is next. Pure Python: no tensor passes through here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import ceil

from engine.batching.job import Job, Slot
from engine.errors import InvalidRequest, QueueFull
from engine.request import IMAGE_TOKEN_COUNT

MAX_RETRY_SECONDS = 120  # the OpenAI client waits as it is told up to here, and half a second beyond


class Scheduler:
    """Let images into a batch of bounded size, in turn from each job that has some waiting, and out of it at any step."""

    def __init__(self, max_batch_size: int, max_queue: int | None = None) -> None:
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size is {max_batch_size}, but must be at least 1")
        self.batch_limit = max_batch_size
        self.max_queue = max_queue  # images that may wait; None: any number
        self.running: list[Slot] = []
        self._line: deque[Job] = deque()  # those with images that wait; the first is next

    @property
    def waiting_count(self) -> int:
        """Return how many images wait."""
        return sum(len(job.waiting) for job in self._line)

    @property
    def has_work(self) -> bool:
        """Tell whether any image waits or is drawn."""
        return bool(self._line or self.running)

    def check_room(self, count: int, seconds_per_step: float) -> None:
        """Refuse images that there is no room for; `seconds_per_step` tells when there will be.

        Raises QueueFull, and InvalidRequest where there can never be.
        """
        if self.max_queue is None:
            return
        capacity = self.batch_limit + self.max_queue
        if count > capacity:
            raise InvalidRequest(
                "num_images", f"num_images is {count}, but this server holds {capacity} images at most: ask for fewer at once"
            )
        excess = len(self.running) + self.waiting_count + count - capacity
        if excess > 0:
            seconds = ceil(self._steps_until_left(excess) * seconds_per_step)
            raise QueueFull(min(max(1, seconds), MAX_RETRY_SECONDS))

    def _steps_until_left(self, count: int) -> int:
        """Return in how many steps `count` images will have left a batch that is kept full."""
        rounds, index = divmod(count - 1, self.batch_limit)
        remaining = sorted(IMAGE_TOKEN_COUNT - slot.position for slot in self.running)
        first = remaining[min(index, len(remaining) - 1)] if remaining else IMAGE_TOKEN_COUNT
        return rounds * IMAGE_TOKEN_COUNT + first

    def add(self, job: Job) -> None:
        """Queue all images of a job."""
        self._line.append(job)
        self._tell_places()

    def admit(self) -> list[Slot]:
        """Move waiting images to the end of the batch while there is room, one of each job in turn; return them."""
        count = len(self.running)
        while self._line and len(self.running) < self.batch_limit:
            job = self._line.popleft()
            self.running.append(job.waiting.popleft())
            job.tell_place(0)
            if job.waiting:
                self._line.append(job)
        if len(self.running) > count:
            self._tell_places()
        return self.running[count:]

    def retire(self, is_leaving: Callable[[Slot], bool]) -> list[int] | None:
        """Let images leave; the last ones fill the holes, so that few rows move.

        Return the new batch's rows as indices into the old one, or None where nobody left.
        """
        order = list(range(len(self.running)))
        row = 0
        while row < len(order):
            if not is_leaving(self.running[order[row]]):
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
        """Take images out of the batch and make them the next ones, to be drawn again from the start."""
        jobs = list(dict.fromkeys(slot.job for slot in slots))
        self.running = [slot for slot in self.running if slot not in slots]
        for slot in sorted(slots, key=lambda slot: slot.index, reverse=True):
            slot.tokens.clear()
            slot.job.waiting.appendleft(slot)
        self._line = deque([*jobs, *(job for job in self._line if job not in jobs)])
        self._tell_places()

    def drop(self, job: Job) -> None:
        """Forget the images of a job that still wait."""
        if job in self._line:
            self._line.remove(job)
            job.waiting.clear()
            self._tell_places()

    def _tell_places(self) -> None:
        """Tell each job that has no image in the batch yet where it is in the line."""
        free = self.batch_limit - len(self.running)
        for index, job in enumerate(self._line):
            if len(job.waiting) == len(job.slots):
                job.tell_place(max(0, index + 1 - free))
