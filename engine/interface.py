"""What `DalleModel` asks of an engine: one on this machine, or one that spreads its work over others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.request import DrawingRequest, SamplingSettings

if TYPE_CHECKING:
    from engine.batching.job import Job
    from engine.batching.statistics import EngineState
    from engine.weights.known_words import KnownWords


class DrawingEngine(Protocol):
    """An engine that draws requests. Its methods may be called from any thread."""

    @property
    def sampling(self) -> SamplingSettings:
        """The settings that the model was made for."""

    @property
    def known_words(self) -> KnownWords | None:
        """What the model draws; None if no list says that."""

    @property
    def state(self) -> EngineState:
        """A snapshot, which waits for no other machine and for no step."""

    def count_text_tokens(self, prompt: str) -> int:
        """Return how many tokens of a prompt the model reads, start and end token included."""

    def submit(self, request: DrawingRequest, timeout: float | None = None, caller: str | None = None) -> Job:
        """Queue a request of a caller, to be done within `timeout` seconds, and return its job.

        Raises InvalidRequest for more images than there is ever room for, QueueFull, EngineClosed.
        """

    def cancel(self, job: Job) -> None:
        """Stop drawing a job. No effect on one that is over."""

    def drain(self) -> None:
        """Refuse new requests; what is queued or being drawn is finished."""

    def close(self, timeout: float | None = None) -> bool:
        """Stop; unfinished requests end with EngineClosed. Return whether it stopped within `timeout` seconds."""
