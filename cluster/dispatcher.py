"""What is sent where: waiting images go to replicas with free slots, and their events come back."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

from cluster.front_loop import FrontLoop
from cluster.front_queue import FrontQueue
from cluster.link import Link
from cluster.member import Call, Member
from cluster.members import Members
from cluster.messages import Failure, Message
from cluster.placement import place
from engine.batching.job import Job
from engine.errors import EngineClosed
from engine.events import ImageDone, Preview, Progress


class Dispatcher:
    """The calls that draw. All methods run on the front's loop."""

    def __init__(self, link: Link, queue: FrontQueue, members: Members, loop: FrontLoop) -> None:
        self._link, self._queue, self._members, self._loop = link, queue, members, loop

    def dispatch(self) -> None:
        """Send waiting images to replicas with free slots."""
        if members := self._members.open:
            for member, call in place(self._queue.admit(len(members), self._members.batch_limit), members):
                call.task = self._loop.start(self._draw(member, call))

    def lose(self, member: Member, error: BaseException) -> None:
        """Take all images from a replica, and send it none until it reports again."""
        for call in list(member.calls):
            self._lose_call(member, call, error)
            if call.task is not None:
                call.task.cancel()
        self._members.shut(member, error)
        self.dispatch()

    def cancel(self, job: Job) -> None:
        """Cancel what replicas still draw of a request that is over."""
        for call in self._members.calls_of(job):
            if call.task is not None:
                call.task.cancel()
        self.dispatch()

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
            member.calls.discard(call)
        self.dispatch()

    def _lose_call(self, member: Member, call: Call, error: BaseException) -> None:
        """Draw the unfinished images of a call again elsewhere. Whether the rest of the replica is lost will show."""
        self._members.shut(member, error)
        member.calls.discard(call)
        self._queue.draw_again(call.job, call.indices)

    def _receive(self, call: Call, message: Message) -> None:
        """Pass an event of a call on to its request."""
        if isinstance(message, Failure):
            if isinstance(message.error, EngineClosed):
                raise message.error
            self._queue.fail(call.job, message.error)
        elif isinstance(message, ImageDone | Preview | Progress):
            has_room = self._queue.receive(call.job, replace(message, index=call.indices[message.index]))
            if has_room:
                self.dispatch()
