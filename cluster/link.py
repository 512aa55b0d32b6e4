"""The protocol between the front and its replicas."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from typing import Protocol

from cluster.messages import About, Failure, Message, Report
from engine.request import DrawingRequest


class Link(Protocol):
    """A way to all replicas.

    `watch` and the coroutines run on the front's event loop; the coroutines raise whatever a lost replica causes.
    """

    def watch(self, on_change: Callable[[Collection[str]], None]) -> None:
        """Call `on_change` with the names of the replicas that run, now and whenever they change."""

    async def describe(self, replica: str) -> About | Failure:
        """Ask a replica what it is; a Failure if it could not load its model."""

    async def ask(self, replica: str, front: str, images: int) -> Report:
        """Ask a replica how it is. `images` wait or are drawn at this front."""

    def draw(self, replica: str, request: DrawingRequest, has_progress: bool) -> AsyncGenerator[Sequence[Message], None]:
        """Draw a request. Closing the generator cancels it. Without `has_progress`, only complete images are reported."""

    async def count_text_tokens(self, replica: str, prompt: str) -> int:
        """Return how many tokens of a prompt the model reads."""

    def kill(self, replica: str) -> None:
        """End the process of a replica that hangs, so that another is started. Blocks; raises if it is gone."""

    def trouble(self) -> str | None:
        """Return why there are fewer replicas than wanted, as one line; None if that is not known."""

    def close(self) -> None:
        """Release the replicas. Those of a cluster that was joined go on."""
