"""The front's queue: turns, shares and bounds hold for all replicas together, and so do the counters."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.remote_job import RemoteJob
from engine.batching.job import Job, Slot, SlotState
from engine.batching.scheduler import CallerShare, Scheduler
from engine.batching.statistics import EngineState, Observer, Statistics
from engine.errors import EngineClosed, GenerationFailed
from engine.events import ImageDone, Preview, Progress
from engine.request import IMAGE_TOKEN_COUNT, DrawingRequest

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


class FrontQueue:
    """The requests that are not over, and their images: those that wait, and those that replicas draw. Any thread may call it."""

    def __init__(self, limits: ClusterLimits, observer: Observer, on_end: Callable[[Job], None]) -> None:
        """`on_end` is called with each request that is over, while its lock is held."""
        self._limits, self._on_end = limits, on_end
        self._statistics = Statistics(observer)
        most = limits.max_batch_size * limits.max_machines
        self._scheduler = Scheduler(most, limits.max_queue, self._share(1), self._steps_left)
        self._jobs: set[Job] = set()
        self._lock = threading.Lock()
        self._is_draining = self._is_closing = False

    @property
    def images(self) -> int:
        """How many images wait or are drawn."""
        with self._lock:
            return self._scheduler.waiting_count + len(self._scheduler.running)

    def snapshot(self, **now: Any) -> EngineState:
        """Return the totals and averages beside the fields that the caller fills in."""
        with self._lock:
            return self._statistics.snapshot(
                **now,
                is_draining=self._is_draining or self._is_closing,
                images_waiting=self._scheduler.waiting_count,
                slots_in_use=len(self._scheduler.running),
                max_queue=self._scheduler.max_queue,
            )

    def add(self, request: DrawingRequest, timeout: float | None, caller: str | None) -> RemoteJob:
        """Queue a request. Raises InvalidRequest for more images than there is ever room for, QueueFull, EngineClosed."""
        with self._lock:
            self._check_room(request, caller)  # before any work, so that a refusal costs next to nothing
        job = RemoteJob(request, timeout, caller)
        with self._lock:
            self._check_room(request, caller)
            self._jobs.add(job)
            self._scheduler.add(job)
        return job

    def admit(self, machines: int, batch_limit: int) -> list[Slot]:
        """Let waiting images into free slots, in turn, and return them. `batch_limit` is how many so many machines draw."""
        now = time.monotonic()
        with self._lock:
            if self._is_closing:
                return []
            self._scheduler.share = self._share(machines)
            self._scheduler.batch_limit = max(1, batch_limit)
            admitted = self._scheduler.admit()
            for slot in admitted:
                if not slot.admitted_at:  # the first time
                    self._statistics.waited(now - slot.job.submitted_at)
                slot.admitted_at = now
        return admitted

    def receive(self, job: RemoteJob, event: ImageDone | Preview | Progress) -> bool:
        """Pass a replica's event on to its caller. Return whether a slot has become free."""
        with self._lock:
            slots = job.slots_of(event.index)
            if slots[0].state not in (SlotState.DECODING, SlotState.DECODED):
                return False
            if isinstance(event, ImageDone):
                self._deliver(job, slots, event)
            elif isinstance(event, Preview) or job.reports_progress:
                job.tell_news(event)
            if isinstance(event, Progress) and event.tokens_drawn == IMAGE_TOKEN_COUNT:
                for slot in job.candidates(event.index):
                    slot.state = SlotState.DECODED
            return self._scheduler.retire() is not None

    def draw_again(self, job: RemoteJob, indices: Collection[int]) -> None:
        """Put those images back that are unfinished, before all others: their replica is lost."""
        with self._lock:
            slots = job.unfinished(indices)
            if any(job.sent[slot.index] >= MAX_SENT for slot in slots):
                self._fail(job, GenerationFailed("the machines that drew it were lost"))
            elif slots:
                _log.warning("%d images are drawn again on another machine", len(slots))
                self._scheduler.requeue(slots)

    def add_steps(self, steps: Sequence[tuple[float, int]]) -> None:
        """Add the seconds and images of a replica's steps."""
        with self._lock:
            for seconds, batch in steps:
                self._statistics.add_step(seconds, batch)

    def fail(self, job: Job, error: Exception) -> None:
        """End a request with an error. No effect on one that is over."""
        with self._lock:
            if not job.is_over:
                self._fail(job, error)

    def cancel(self, job: Job) -> None:
        """End a request that nobody wants any more. No effect on one that is over."""
        with self._lock:
            if not job.is_over:
                self._statistics.cancelled(job.undelivered_count)
                self._end(job)

    def drain(self) -> None:
        """Refuse new requests."""
        self._is_draining = True

    def close(self) -> None:
        """Refuse new requests, and end all others with EngineClosed."""
        with self._lock:
            self._is_closing = True
            for job in list(self._jobs):
                self._end(job, EngineClosed("the engine stopped before this image was done"))

    # The callers of the following hold the lock.

    def _check_room(self, request: DrawingRequest, caller: str | None) -> None:
        if self._is_draining or self._is_closing:
            raise EngineClosed("the server is shutting down and takes no new work")
        per_step = self._statistics.seconds_per_step.value
        self._scheduler.check_room(len(request.seeds), per_step, caller, request.sampling.best_of)

    def _deliver(self, job: Job, slots: Sequence[Slot], event: ImageDone) -> None:
        """Give the caller a picture."""
        job.tell(event)
        for slot in slots:
            slot.state = SlotState.DELIVERED
            self._statistics.drawn(time.monotonic() - slot.admitted_at)
        if job.is_over:
            self._end(job)

    def _fail(self, job: Job, error: Exception) -> None:
        self._statistics.failed(job.undelivered_count)
        self._end(job, error)

    def _end(self, job: Job, error: Exception | None = None) -> None:
        self._jobs.discard(job)
        self._scheduler.drop(job)
        job.finish(error)
        self._scheduler.retire()
        self._on_end(job)

    def _share(self, machines: int) -> CallerShare:
        """Return a caller's share: of the queue, and of the batches of so many machines."""
        return CallerShare(self._limits.batch_per_caller * machines, self._limits.queue_per_caller)

    def _steps_left(self, slot: Slot) -> int:
        """Estimate how many tokens of an image are still to be drawn, by the time since it was sent out."""
        per_step = self._statistics.seconds_per_step.value
        drawn = int((time.monotonic() - slot.admitted_at) / per_step) if per_step and slot.admitted_at else 0
        return max(1, IMAGE_TOKEN_COUNT - drawn)
