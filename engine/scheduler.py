"""Who is in the running batch. Pure Python: no tensor passes through here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from engine.job import Job, Slot


class Scheduler:
    """Let images into a batch of bounded size, first come first served, and out of it at any step."""

    def __init__(self, max_batch_size: int) -> None:
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size is {max_batch_size}, but must be at least 1")
        self.max_batch_size = max_batch_size
        self.waiting: deque[Slot] = deque()
        self.running: list[Slot] = []

    def add(self, job: Job) -> None:
        """Queue all images of a job."""
        self.waiting.extend(job.slots)

    @property
    def has_work(self) -> bool:
        """Tell whether any image waits or is drawn."""
        return bool(self.waiting or self.running)

    def admit(self) -> list[Slot]:
        """Move waiting images to the end of the batch while there is room; return them."""
        admitted: list[Slot] = []
        while self.waiting and len(self.running) + len(admitted) < self.max_batch_size:
            admitted.append(self.waiting.popleft())
        self.running += admitted
        return admitted

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

    def drop(self, job: Job) -> None:
        """Forget the images of a job that still wait."""
        self.waiting = deque(slot for slot in self.waiting if slot.job is not job)

    def clear(self) -> list[Job]:
        """Empty the batch and the queue; return the jobs that were in them."""
        jobs = list(dict.fromkeys(slot.job for slot in (*self.running, *self.waiting)))
        self.running, self.waiting = [], deque()
        return jobs
