"""The requests of all callers, from `submit` to their end: added and cancelled on callers' threads, drawn on the engine's."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from engine.batching.job import Job, Slot, SlotState
from engine.batching.scheduler import Scheduler
from engine.batching.statistics import EngineState, Statistics
from engine.errors import EngineClosed
from engine.events import ImageDone
from engine.request import DrawingRequest


class JobQueue:
    """The jobs that are not over, and the scheduler of their images. Any thread may call it."""

    def __init__(self, scheduler: Scheduler, statistics: Statistics) -> None:
        self.scheduler = scheduler  # for whoever has the lock
        self.lock = threading.Condition()
        self._statistics = statistics
        self._jobs: set[Job] = set()
        self._is_draining = self._is_closing = False

    def check_room(self, request: DrawingRequest, caller: str | None) -> None:
        """Check that a request may be added.

        Raises InvalidRequest for more images than there is ever room for, QueueFull, EngineClosed.
        """
        with self.lock:
            if self._is_draining or self._is_closing:
                raise EngineClosed("the server is shutting down and takes no new work")
            seconds_per_step = self._statistics.seconds_per_step.value
            self.scheduler.check_room(len(request.seeds), seconds_per_step, caller, request.sampling.best_of)

    def add(self, job: Job) -> None:
        """Queue a job. Raises what `check_room` raises."""
        with self.lock:
            self.check_room(job.request, job.caller)
            self._jobs.add(job)
            self.scheduler.add(job)
            self.lock.notify()

    def wait_for_work(self, *, has_pictures: bool) -> bool:
        """Wait until an image waits or is in the batch, or not at all if pictures are due; return False once it is closed."""
        with self.lock:
            self.lock.wait_for(lambda: has_pictures or self.scheduler.has_work or self._is_closing)
            return not self._is_closing

    def deliver(self, slots: Sequence[Slot], done: ImageDone) -> None:
        """Send a picture to its caller; `slots` are all candidates of its images. The job ends with its last picture."""
        job = slots[0].job
        with self.lock:
            if slots[0].state is SlotState.ENDED:  # cancelled meanwhile, and counted as such
                return
            job.tell(done)
            for slot in slots:
                slot.state = SlotState.DELIVERED
                self._statistics.drawn(time.monotonic() - slot.admitted_at)
            if job.is_over:
                self._end(job)

    def fail(self, job: Job, error: Exception) -> None:
        """End a job whose images could not be drawn. No effect on one that is over."""
        with self.lock:
            if not job.is_over:
                self._statistics.failed(job.undelivered_count)
                self._end(job, error)

    def cancel(self, job: Job) -> None:
        """End a job that nobody wants any more. No effect on one that is over."""
        with self.lock:
            if not job.is_over:
                self._statistics.cancelled(job.undelivered_count)
                self._end(job)
            self.lock.notify()

    def drain(self) -> None:
        """Refuse new jobs."""
        with self.lock:
            self._is_draining = True

    def close(self) -> None:
        """Refuse new jobs, and end all others with EngineClosed. Any thread can, as the engine's may hang or be dead."""
        with self.lock:
            self._is_closing = True
            for job in list(self._jobs):
                self._end(job, EngineClosed("the engine stopped before this image was done"))
            self.lock.notify()

    def snapshot(self, **now: Any) -> EngineState:
        """Return the totals and averages beside the fields that the engine fills in. It does not take the lock."""
        return self._statistics.snapshot(
            **now,
            is_draining=self._is_draining or self._is_closing,
            images_waiting=self.scheduler.waiting_count,
            slots_in_use=len(self.scheduler.running),
            batch_limit=self.scheduler.batch_limit,
            max_queue=self.scheduler.queue_limit,
        )

    def _end(self, job: Job, error: Exception | None = None) -> None:
        """End a job; its images leave the batch at the next step."""
        self._jobs.discard(job)
        self.scheduler.drop(job)
        job.finish(error)
