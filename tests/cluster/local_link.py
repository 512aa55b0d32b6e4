"""Replicas in this process, whole engines with Tiny, which can be lost, hang or be held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence

from cluster.messages import About, Failure, Message, Report
from cluster.replica import Replica
from engine.request import DrawingRequest


class LocalLink:
    """A link without a network."""

    def __init__(self, replicas: dict[str, Replica]) -> None:
        self._replicas = replicas
        self.lost: set[str] = set()  # every call fails
        self.hung: set[str] = set()  # no call ends
        self.killed: list[str] = []
        self.held = False  # drawing does not begin
        self.drawn: list[tuple[str, DrawingRequest]] = []  # in the order in which it was sent

    def watch(self, on_change: Callable[[Collection[str]], None]) -> None:
        on_change(list(self._replicas))

    async def describe(self, replica: str) -> About | Failure:
        await self._check(replica)
        return await self._replicas[replica].describe()

    async def ask(self, replica: str, front: str, images: int) -> Report:
        await self._check(replica)
        return await self._replicas[replica].ask(front, images)

    async def draw(self, replica: str, request: DrawingRequest, has_progress: bool) -> AsyncGenerator[Sequence[Message], None]:
        self.drawn.append((replica, request))
        while self.held:
            await asyncio.sleep(0.01)
        async for messages in self._replicas[replica].draw(request, has_progress):
            await self._check(replica)
            yield messages

    async def count_text_tokens(self, replica: str, prompt: str) -> int:
        await self._check(replica)
        return await self._replicas[replica].count_text_tokens(prompt)

    def kill(self, replica: str) -> None:
        self.killed.append(replica)

    def trouble(self) -> str | None:
        return None

    def close(self) -> None:
        pass

    async def _check(self, replica: str) -> None:
        while replica in self.hung:
            await asyncio.sleep(0.01)
        if replica in self.lost:
            raise ConnectionError("lost")
