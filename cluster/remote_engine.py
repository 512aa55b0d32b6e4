"""The engine over several machines. The queue is here, at the front: turns, shares and bounds hold for all replicas together.

submit ─> Scheduler ─> _dispatch  let waiting images into free slots, each on the freest replica
                       _draw      pass a replica's events on to the job
                       _lose      a replica is lost: its unfinished images go first in the queue again, and draw the same
                       _keep_asking   ask a replica how it is; silence means that it is lost
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any

from cluster.kind import Kind
from cluster.link import Link
from cluster.member import Call, Member, freest
from cluster.messages import Failure, Message, Report
from cluster.remote_job import RemoteJob
from engine.batching.job import Job, Slot, SlotState
from engine.batching.scheduler import CallerShare, Scheduler
from engine.batching.statistics import EngineState, Observer, Statistics
from engine.errors import DalleError, EngineClosed, ForkedProcess, GenerationFailed, first_line
from engine.events import ImageDone, Preview, Progress
from engine.request import IMAGE_TOKEN_COUNT, DrawingRequest, SamplingSettings

MAX_SENT = 5  # times that an image is sent out; one that ends so many replicas is likely the cause
ASK_SECONDS = 1.0
SILENCE_SECONDS = 10.0  # a replica that does not answer for so long is lost; a busy one answers, because another thread draws
SILENCES = 2  # in a row, after which a replica's process is ended
_PATIENCE_SECONDS = 30.0  # between two lines of log that say what the start waits for

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterLimits:
    """How much work there may be. The bounds of the queue are for all machines together."""

    max_batch_size: int  # of one machine
    max_machines: int
    batch_per_caller: float  # of one machine's batch
    max_queue: int | None
    queue_per_caller: float


class RemoteEngine:
    """A queue for the images of many callers, and the replicas that draw them. Satisfies `DrawingEngine`."""

    def __init__(
        self,
        link: Link,
        limits: ClusterLimits,
        observer: Observer | None = None,
        step_timeout: float = 60.0,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        """Wait for the first replica.

        Args:
            link: The way to the replicas.
            limits: The bounds of batch and queue.
            observer: Receives each measurement.
            step_timeout: Seconds after which a step hangs, and its replica is lost.
            silence: Seconds without an answer after which a replica is lost.

        Raises what a replica raised that could not load its model.
        """
        self._process = os.getpid()
        self._link, self._limits, self._step_timeout, self._silence = link, limits, step_timeout, silence
        self._name = secrets.token_hex(8)
        self._statistics = Statistics(observer or Observer())
        most = limits.max_batch_size * limits.max_machines
        self._scheduler = Scheduler(most, limits.max_queue, self._share(1), self._steps_left)
        self._members: dict[str, Member] = {}
        self._jobs: set[RemoteJob] = set()  # not over yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._is_draining = self._is_closing = False
        self._failure: DalleError | None = None  # of the first replica, at the start
        self._last_open = time.monotonic()  # when there was a replica to send images to
        self._is_ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cluster", daemon=True)
        self._thread.start()
        self._call_soon(link.watch, self._update_members)
        self._await_first()

    @property
    def sampling(self) -> SamplingSettings:
        """The settings that the model was made for."""
        return self._sampling

    @property
    def known_words(self) -> None:
        """The front has no list of what the model draws, so it warns of no words."""
        return None

    def count_text_tokens(self, prompt: str) -> int:
        """Return how many tokens of a prompt the model reads. Raises EngineClosed if no replica answers."""
        with self._lock:
            names = [member.name for member in self._open]
        for name in names:
            with suppress(Exception):
                counting = asyncio.wait_for(self._link.count_text_tokens(name, prompt), self._silence)
                return asyncio.run_coroutine_threadsafe(counting, self._loop).result()
        raise EngineClosed("no machine answers at the moment")

    def submit(self, request: DrawingRequest, timeout: float | None = None, caller: str | None = None) -> Job:
        """Queue a request of a caller, to be done within `timeout` seconds, and return its job.

        Raises InvalidRequest for more images than there is ever room for, QueueFull, EngineClosed.
        """
        if self._is_forked:
            raise ForkedProcess
        with self._lock:
            self._check_room(request, caller)
        job = RemoteJob(request, timeout, caller)
        with self._lock:
            self._check_room(request, caller)
            self._jobs.add(job)
            self._scheduler.add(job)
        self._call_soon(self._dispatch)
        return job

    def cancel(self, job: Job) -> None:
        """Stop drawing a job. No effect on one that is over, or in a forked process."""
        if self._is_forked:
            return
        with self._lock:
            if not job.is_over:
                self._statistics.cancelled(job.undelivered_count)
                self._end(job)

    def drain(self) -> None:
        """Refuse new requests; what is queued or being drawn is finished. Raises ForkedProcess."""
        if self._is_forked:
            raise ForkedProcess
        self._is_draining = True

    def close(self, timeout: float | None = None) -> bool:
        """Stop: unfinished requests end with EngineClosed. Return whether the front's thread ended in `timeout` seconds."""
        if self._is_forked:
            return True
        with self._lock:
            self._is_closing = True
            for job in list(self._jobs):
                self._end(job, EngineClosed("the engine stopped before this image was done"))
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
            self._thread.join(timeout)
        self._link.close()
        return not self._thread.is_alive()

    @property
    def state(self) -> EngineState:
        """A snapshot of all machines, as they last reported. Available while they do not answer, and in a forked process.

        While there is no replica to draw, `seconds_in_step` is the time since there was one.
        """
        with self._lock:
            reports = [member.report for member in self._open if member.report is not None]
            in_step = [report.state.seconds_in_step for report in reports] or [time.monotonic() - self._last_open]
            state = self._statistics.snapshot(
                is_forked=self._is_forked,
                is_alive=self._thread.is_alive(),
                is_draining=self._is_draining or self._is_closing,
                images_waiting=self._scheduler.waiting_count,
                slots_in_use=len(self._scheduler.running),
                batch_limit=sum(report.state.batch_limit for report in reports),
                max_queue=self._scheduler.max_queue,
                machines=len(reports),
            )
            return replace(state, seconds_in_step=min(in_step))

    @property
    def _is_forked(self) -> bool:
        return os.getpid() != self._process

    @property
    def _open(self) -> list[Member]:
        return [member for member in self._members.values() if member.is_open]

    def _share(self, machines: int) -> CallerShare:
        """Return a caller's share: of the queue, and of the batches of so many machines."""
        return CallerShare(self._limits.batch_per_caller * machines, self._limits.queue_per_caller)

    def _steps_left(self, slot: Slot) -> int:
        """Estimate how many tokens of an image are still to be drawn, by the time since it was sent out."""
        per_step = self._statistics.seconds_per_step.value
        drawn = int((time.monotonic() - slot.admitted_at) / per_step) if per_step and slot.admitted_at else 0
        return max(1, IMAGE_TOKEN_COUNT - drawn)

    def _check_room(self, request: DrawingRequest, caller: str | None) -> None:
        if self._is_draining or self._is_closing:
            raise EngineClosed("the server is shutting down and takes no new work")
        per_step = self._statistics.seconds_per_step.value
        self._scheduler.check_room(len(request.seeds), per_step, caller, request.sampling.best_of)

    def _await_first(self) -> None:
        """Wait until a replica can draw. Raises what the first one raised while it loaded its model."""
        while not self._is_ready.wait(_PATIENCE_SECONDS):
            _log.warning("no machine is ready yet; %s", self._link.trouble() or "the first start may download a model")
        if self._failure is not None:
            self.close()
            raise self._failure

    def _call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run a function on the front's thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._loop.stop()

    # Replicas come and go

    def _update_members(self, names: Collection[str]) -> None:
        """Begin to ask new replicas, and send no more to those that are to stop."""
        with self._lock:
            new = [Member(name) for name in names if name not in self._members]
            for member in self._members.values():
                member.is_listed = member.name in names
            self._members.update({member.name: member for member in new})
        for member in new:
            self._start(self._keep_asking(member))

    async def _keep_asking(self, member: Member) -> None:
        """Ask a replica how it is until it has stopped."""
        silences = 0
        while member.is_listed or member.calls:
            with self._lock:
                images = self._scheduler.waiting_count + len(self._scheduler.running)
            try:
                report = await asyncio.wait_for(self._link.ask(member.name, self._name, images), self._silence)
            except Exception as error:
                silences += isinstance(error, TimeoutError)
                self._lose(member, error)
            else:
                silences = 0
                self._hear(member, report)
            if silences == SILENCES:
                self._kill(member)
            await asyncio.sleep(ASK_SECONDS)
        with self._lock:
            if self._members.get(member.name) is member:
                del self._members[member.name]

    def _kill(self, member: Member) -> None:
        """End the process of a replica that hangs."""

        def kill() -> None:
            with suppress(Exception):  # it is gone
                self._link.kill(member.name)

        _log.error("machine %s hangs: its process is ended, and another started", member.name)
        self._loop.run_in_executor(None, kill)

    def _hear(self, member: Member, report: Report | Failure) -> None:
        """Note a replica's report, and open it for images if it is well."""
        if isinstance(report, Failure):
            if not self._is_ready.is_set():
                self._failure = report.error
                self._is_ready.set()
            else:
                _log.error("machine %s cannot draw: %s", member.name, report.error)
            return
        if report.state.seconds_in_step > self._step_timeout or not report.state.is_alive:
            self._lose(member, RuntimeError("its engine is dead, or hangs"))
            return
        with self._lock:
            for seconds, batch in report.steps:
                self._statistics.add_step(seconds, batch)
            is_new, member.report, member.is_responding = member.report is None, report, True
            self._last_open = time.monotonic()
            kinds = {other.report.kind for other in self._open if other.report is not None}
        if is_new:
            _log.info("machine %s on %s can draw: %s", member.name, report.host, report.kind)
            if len(kinds) > 1:
                _log.warning(
                    "the machines are not alike, so the same seed may give another image on the next request: %s",
                    "; ".join(sorted(map(str, kinds))),
                )
            self._sampling = report.sampling
            self._is_ready.set()
        self._dispatch()

    def _lose(self, member: Member, error: BaseException) -> None:
        """Take all images from a replica, and send it none until it answers again."""
        for call in list(member.calls):
            self._lose_call(member, call, error)
            if call.task is not None:
                call.task.cancel()
        self._shut(member, error)
        self._dispatch()

    def _lose_call(self, member: Member, call: Call, error: BaseException) -> None:
        """Draw the unfinished images of a call again elsewhere. Whether the rest of the replica is lost will show."""
        self._shut(member, error)
        with self._lock:
            member.calls.discard(call)
            self._draw_again(call)

    def _shut(self, member: Member, error: BaseException) -> None:
        """Send a replica nothing until it answers the next question."""
        if member.is_responding:
            _log.warning("machine %s does not answer (%s: %s)", member.name, type(error).__name__, first_line(error))
        with self._lock:
            member.is_responding = False

    def _draw_again(self, call: Call) -> None:
        """Put the unfinished images of a call back into the queue. The caller holds the lock."""
        slots = call.unfinished
        if any(call.job.sent[slot.index] >= MAX_SENT for slot in slots):
            self._statistics.failed(call.job.undelivered_count)
            self._end(call.job, GenerationFailed("the machines that drew it were lost"))
        elif slots:
            _log.warning("%d images are drawn again on another machine", len(slots))
            self._scheduler.requeue(slots)

    # Images go out, events come back

    def _dispatch(self) -> None:
        """Send waiting images to replicas with free slots. Runs on the front's thread."""
        with self._lock:
            members = self._open
            if not members or self._is_closing:
                return
            self._scheduler.share = self._share(len(members))
            self._scheduler.batch_limit = max(
                1, sum(max(member.in_use, member.capacity if member.is_open else 0) for member in self._members.values())
            )
            calls = self._place(self._scheduler.admit(), members)
        for member, call in calls:
            call.task = self._start(self._draw(member, call))

    def _place(self, admitted: Sequence[Slot], members: Sequence[Member]) -> list[tuple[Member, Call]]:
        """Choose a replica for each admitted image; those of one request on one replica make one call."""
        now = time.monotonic()
        images: dict[tuple[Member, RemoteJob], list[int]] = {}
        more: dict[Member, int] = {}
        for job, indices, count in _units(admitted):
            member = freest(_alike(members, job.kind) or members, more)
            job.kind = member.report.kind if member.report is not None else None
            more[member] = more.get(member, 0) + count
            images.setdefault((member, job), []).extend(indices)
        for slot in admitted:
            if not slot.admitted_at:  # the first time
                self._statistics.waited(now - slot.job.submitted_at)
            slot.admitted_at = now
        calls = [(member, Call(job, tuple(indices))) for (member, job), indices in images.items()]
        for member, call in calls:
            member.calls.add(call)
            call.job.sent.update(call.indices)
        return calls

    async def _draw(self, member: Member, call: Call) -> None:
        """Have a replica draw a call's images, and pass its events on."""
        request = replace(call.job.request, seeds=tuple(call.job.request.seeds[index] for index in call.indices))
        try:
            async with aclosing(self._link.draw(member.name, request, call.job.reports_progress)) as batches:
                async for messages in batches:
                    for message in messages:
                        self._receive(call, message)
            if call.unfinished:
                raise EngineClosed("it ended the drawing early")
        except Exception as error:
            self._lose_call(member, call, error)
        finally:
            with self._lock:
                member.calls.discard(call)
        self._dispatch()

    def _receive(self, call: Call, message: Message) -> None:
        """Pass an event of a call on to its job."""
        job = call.job
        if isinstance(message, Failure):
            if isinstance(message.error, EngineClosed):
                raise message.error
            with self._lock:
                if not job.is_over:
                    self._statistics.failed(job.undelivered_count)
                    self._end(job, message.error)
            return
        if not isinstance(message, ImageDone | Preview | Progress):
            return
        index = call.indices[message.index]
        event = replace(message, index=index)
        with self._lock:
            slots = job.slots_of(index)
            if slots[0].state not in (SlotState.DECODING, SlotState.DECODED):
                return
            if isinstance(event, ImageDone):
                self._deliver(job, slots, event)
            elif isinstance(event, Preview) or job.reports_progress:
                job.tell_news(event)
            if isinstance(event, Progress) and event.tokens_drawn == IMAGE_TOKEN_COUNT:
                for slot in job.candidates(index):
                    slot.state = SlotState.DECODED
            has_room = self._scheduler.retire() is not None
        if has_room:
            self._dispatch()

    def _deliver(self, job: RemoteJob, slots: Sequence[Slot], event: ImageDone) -> None:
        """Give the caller a picture. The caller of this function holds the lock."""
        job.tell(event)
        for slot in slots:
            slot.state = SlotState.DELIVERED
            self._statistics.drawn(time.monotonic() - slot.admitted_at)
        if job.is_over:
            self._end(job)

    def _end(self, job: Job, error: Exception | None = None) -> None:
        """End a job; what replicas still draw of it is cancelled. The caller holds the lock."""
        self._jobs.discard(job)
        self._scheduler.drop(job)
        job.finish(error)
        self._scheduler.retire()
        self._call_soon(self._cancel_calls, job)

    def _cancel_calls(self, job: Job) -> None:
        with self._lock:
            calls = [call for member in self._members.values() for call in member.calls if call.job is job]
        for call in calls:
            if call.task is not None:
                call.task.cancel()
        self._dispatch()


def _units(slots: Sequence[Slot]) -> Iterator[tuple[RemoteJob, list[int], int]]:
    """Yield what one replica must draw of the admitted slots: a job, the indices of its images, how many slots."""
    at = 0
    while at < len(slots):
        job = slots[at].job
        assert isinstance(job, RemoteJob)
        own = slots[at : at + job.together]
        yield job, sorted({slot.index for slot in own}), len(own)
        at += job.together


def _alike(members: Sequence[Member], kind: Kind | None) -> list[Member]:
    """Return the members of a kind."""
    return [member for member in members if member.report is not None and member.report.kind == kind]
