"""The front's queue: turns, shares and bounds hold for all replicas together, and so do the counters."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from cluster.remote_job import RemoteJob
from engine.batching.job import Job, Slot, SlotState
from engine.batching.job_queue import JobQueue
from engine.batching.scheduler import CallerShare, Scheduler
from engine.batching.statistics import Observer, Statistics
from engine.errors import GenerationFailed
from engine.events import ImageDone, Preview, Progress
from engine.request import IMAGE_TOKEN_COUNT

MAX_SENT = 5  # times that an image is sent out; one that ends so many replicas is likely the cause

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterLimits:
    """How much work there may be. The bounds of the queue are for all machines together."""

    max_batch_size: int  # of one machine
    max_machines: int
    batch_per_caller: float  # of one machine's batch
    max_queue: int | None
    queue_per_caller: float


class FrontQueue(JobQueue):
    """The requests that are not over, and their images: those that wait, and those that replicas draw."""

    def __init__(self, limits: ClusterLimits, observer: Observer, on_end: Callable[[Job], None]) -> None:
        """`on_end` is called with each request that is over, while the lock is held."""
        self._limits, self._on_end = limits, on_end
        most = limits.max_batch_size * limits.max_machines
        scheduler = Scheduler(most, limits.max_queue, self._share(1), self._steps_left)
        super().__init__(scheduler, Statistics(observer))

    @property
    def images(self) -> int:
        """How many images wait or are drawn."""
        with self.lock:
            return self.scheduler.waiting_count + len(self.scheduler.running)

    def admit(self, machines: int, batch_limit: int) -> list[Slot]:
        """Admit waiting images to free slots, in turn, and return them. `batch_limit` is how many so many machines draw."""
        now = time.monotonic()
        with self.lock:
            if self._is_closing:
                return []
            self.scheduler.share = self._share(machines)
            self.scheduler.batch_limit = max(1, batch_limit)
            admitted = self.scheduler.admit()
            for slot in admitted:
                if not slot.admitted_at:  # the first time
                    self._statistics.waited(now - slot.job.submitted_at)
                slot.admitted_at = now
        return admitted

    def receive(self, job: RemoteJob, event: ImageDone | Preview | Progress) -> bool:
        """Pass a replica's event on to its caller. Return whether a slot has become free."""
        with self.lock:
            slots = job.slots_of(event.index)
            if slots[0].state not in (SlotState.DECODING, SlotState.DECODED):
                return False
            if isinstance(event, ImageDone):
                self.deliver(slots, event)
            elif isinstance(event, Preview) or job.reports_progress:
                job.tell_news(event)
            if isinstance(event, Progress) and event.tokens_drawn == IMAGE_TOKEN_COUNT:
                for slot in job.candidates(event.index):
                    slot.state = SlotState.DECODED
            return self.scheduler.retire() is not None

    def draw_again(self, job: RemoteJob, indices: Collection[int]) -> None:
        """Put those images back that are unfinished, before all others: their replica is lost."""
        with self.lock:
            slots = job.unfinished(indices)
            if any(job.sent[slot.index] >= MAX_SENT for slot in slots):
                self.fail(job, GenerationFailed("the machines that drew it were lost"))
            elif slots:
                _log.warning("%d images are drawn again on another machine", len(slots))
                self.scheduler.requeue(slots)

    def add_steps(self, steps: Sequence[tuple[float, int]]) -> None:
        """Add the seconds and images of a replica's steps."""
        with self.lock:
            for seconds, batch in steps:
                self._statistics.add_step(seconds, batch)

    def _end(self, job: Job, error: Exception | None = None) -> None:
        super()._end(job, error)
        self.scheduler.retire()
        self._on_end(job)

    def _share(self, machines: int) -> CallerShare:
        """Return a caller's share: of the queue, and of the batches of so many machines."""
        return CallerShare(self._limits.batch_per_caller * machines, self._limits.queue_per_caller)

    def _steps_left(self, slot: Slot) -> int:
        """Estimate how many tokens of an image are still to be drawn, by the time since it was sent out."""
        per_step = self._statistics.seconds_per_step.value
        drawn = int((time.monotonic() - slot.admitted_at) / per_step) if per_step and slot.admitted_at else 0
        return max(1, IMAGE_TOKEN_COUNT - drawn)
