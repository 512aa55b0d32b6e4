"""The engine over several machines, as `DalleModel` sees it."""

from __future__ import annotations

import asyncio
import os
from contextlib import nullcontext, suppress
from dataclasses import replace

from cluster.dispatcher import Dispatcher
from cluster.front_loop import FrontLoop
from cluster.front_queue import ClusterLimits, FrontQueue
from cluster.link import Link
from cluster.members import Members
from cluster.remote_job import RemoteJob
from cluster.watch import Watch
from engine.batching.job import Job
from engine.batching.statistics import EngineState, Observer
from engine.errors import DalleError, EngineClosed, ForkedProcess
from engine.request import DrawingRequest

SILENCE_SECONDS = 10.0  # a replica that does not answer for so long is lost; a busy one answers, because another thread draws


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
        self._link, self._silence = link, silence
        self._members, self._loop = Members(), FrontLoop()
        self._queue = FrontQueue(limits, observer or Observer(), lambda job: self._loop.call(self._dispatcher.cancel, job))
        self._dispatcher = Dispatcher(link, self._queue, self._members, self._loop)
        watch = Watch(link, self._queue, self._members, self._dispatcher, self._loop, step_timeout, silence)
        self._loop.call(link.watch, watch.update)
        try:
            about = watch.await_first()
        except DalleError:
            self.close()
            raise
        self.sampling, self.known_words = about.sampling, about.known_words
        self._queue.scheduler.best_of = about.sampling.best_of

    def count_text_tokens(self, prompt: str) -> int:
        """Return how many tokens of a prompt the model reads. Raises EngineClosed if no replica answers."""
        for member in self._members.open:
            with suppress(Exception):
                counting = self._link.count_text_tokens(member.name, prompt)
                return int(self._loop.result(asyncio.wait_for(counting, self._silence)))
        raise EngineClosed("no machine answers at the moment")

    def submit(self, request: DrawingRequest, timeout: float | None = None, caller: str | None = None) -> Job:
        """Queue a request of a caller, to be done within `timeout` seconds, and return its job.

        Raises InvalidRequest for more images than there is ever room for, QueueFull, EngineClosed.
        """
        self._check_process()
        self._queue.check_room(request, caller)  # before any work, so that a refusal costs next to nothing
        job = RemoteJob(request, timeout, caller)
        self._queue.add(job)
        self._loop.call(self._dispatcher.dispatch)
        return job

    def cancel(self, job: Job) -> None:
        """Stop drawing a job. No effect on one that is over, or in a forked process."""
        if not self._is_forked:
            self._queue.cancel(job)

    def drain(self) -> None:
        """Refuse new requests; what is queued or being drawn is finished. Raises ForkedProcess."""
        self._check_process()
        self._queue.drain()

    def close(self, timeout: float | None = None) -> bool:
        """Stop: unfinished requests end with EngineClosed. Return whether the front's thread ended in `timeout` seconds."""
        if self._is_forked:
            return True
        self._queue.close()
        has_ended = self._loop.stop(timeout)
        self._link.close()
        return has_ended

    @property
    def state(self) -> EngineState:
        """A snapshot of all machines, as they last reported. Available while they do not answer, and in a forked process.

        While there is no replica to draw, `seconds_in_step` is the time since there was one.
        """
        states = [member.report.state for member in self._members.open if member.report is not None]
        with nullcontext() if self._is_forked else self._queue.lock:
            snapshot = self._queue.snapshot(is_forked=self._is_forked, is_alive=self._loop.is_alive, machines=len(states))
        in_step = [state.seconds_in_step for state in states] or [self._members.seconds_without]
        batch_limit = sum(state.batch_limit for state in states)
        return replace(snapshot, batch_limit=batch_limit, seconds_in_step=min(in_step))

    @property
    def _is_forked(self) -> bool:
        return os.getpid() != self._process

    def _check_process(self) -> None:
        if self._is_forked:
            raise ForkedProcess
