"""The watch over the replicas: the front asks each regularly how it is, and one that is silent or hangs is lost."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Collection
from contextlib import suppress

from cluster.dispatcher import Dispatcher
from cluster.front_loop import FrontLoop
from cluster.front_queue import FrontQueue
from cluster.link import Link
from cluster.member import Member
from cluster.members import Members
from cluster.messages import About, Failure, Report
from engine.errors import DalleError

ASK_SECONDS = 1.0
SILENCES = 2  # in a row, after which a replica's process is ended
_PATIENCE_SECONDS = 40.0  # between two lines of log that say what the start waits for; Ray Serve knows that after 30 s

_log = logging.getLogger(__name__)


class Watch:
    """A task for each replica that asks how it is. Runs on the front's loop, except `await_first`."""

    def __init__(
        self,
        link: Link,
        queue: FrontQueue,
        members: Members,
        dispatcher: Dispatcher,
        loop: FrontLoop,
        step_timeout: float,
        silence: float,
    ) -> None:
        """After `step_timeout` seconds a step hangs, and after `silence` seconds without an answer a replica is lost."""
        self._link, self._queue, self._members, self._dispatcher, self._loop = link, queue, members, dispatcher, loop
        self._step_timeout, self._silence = step_timeout, silence
        self._front = secrets.token_hex(8)  # this front's name
        self._first: About | DalleError | None = None  # what the first replica said of itself
        self._is_ready = threading.Event()

    def await_first(self) -> About:
        """Wait until a replica can draw, and return what it is. Raises what it raised while it loaded its model."""
        while not self._is_ready.wait(_PATIENCE_SECONDS):
            _log.warning("no machine is ready yet; %s", self._link.trouble() or "the first start may download a model")
        assert self._first is not None
        if isinstance(self._first, DalleError):
            raise self._first
        return self._first

    def update(self, names: Collection[str]) -> None:
        """Begin to ask new replicas, and send no more to those that are to stop."""
        for member in self._members.update(names):
            self._loop.start(self._keep_asking(member))

    async def _keep_asking(self, member: Member) -> None:
        """Ask a replica how it is until it has stopped."""
        silences = 0
        while member.is_listed or member.calls:
            try:
                await asyncio.wait_for(self._ask(member), self._silence)
                silences = 0
            except Exception as error:
                silences += isinstance(error, TimeoutError)
                self._dispatcher.lose(member, error)
            if silences == SILENCES:
                self._kill(member)
            await asyncio.sleep(ASK_SECONDS)
        self._members.discard(member)

    async def _ask(self, member: Member) -> None:
        """Ask a replica how it is, and the first time what it is."""
        if member.about is None:
            about = await self._link.describe(member.name)
            if isinstance(about, Failure):
                self._note_failure(member, about.error)
                return
            member.about = about
        self._hear(member, await self._link.ask(member.name, self._front, self._queue.images))

    def _note_failure(self, member: Member, error: DalleError) -> None:
        """Note that a replica could not load its model; the first one's failure ends the front."""
        if self._is_ready.is_set():
            _log.error("machine %s cannot draw: %s", member.name, error)
        else:
            self._begin(error)

    def _begin(self, first: About | DalleError) -> None:
        if not self._is_ready.is_set():
            self._first = first
            self._is_ready.set()

    def _hear(self, member: Member, report: Report) -> None:
        """Note a replica's report, and send it images if it is well."""
        assert member.about is not None
        if report.state.seconds_in_step > self._step_timeout or not report.state.is_alive:
            self._dispatcher.lose(member, RuntimeError("its engine is dead, or hangs"))
            return
        is_new = member.report is None
        self._queue.add_steps(report.steps)
        self._members.hear(member, report)
        if is_new:
            _log.info("machine %s on %s can draw: %s", member.name, member.about.host, member.about.kind)
            if len(kinds := self._members.kinds) > 1:
                _log.warning(
                    "the machines are not alike, so the same seed may give another image on the next request: %s",
                    "; ".join(sorted(map(str, kinds))),
                )
            self._begin(member.about)
        self._dispatcher.dispatch()

    def _kill(self, member: Member) -> None:
        """End the process of a replica that hangs."""

        def kill() -> None:
            with suppress(Exception):  # it is gone
                self._link.kill(member.name)

        _log.error("machine %s hangs: its process is ended, and another started", member.name)
        self._loop.run_aside(kill)
