"""A request in the engine: its slots, and the queue of events to its caller."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from queue import Empty, SimpleQueue
from typing import Any

from engine.errors import DeadlineExceeded, GenerationFailed
from engine.events import Event, Progress, Queued, Tick
from engine.request import IMAGE_TOKEN_COUNT, DrawingRequest
from engine.sampler import uniforms

PROGRESS_EVERY = 8  # tokens


class SlotState(Enum):
    """An image's stage. If memory runs out, it goes back from DECODING to WAITING."""

    WAITING = auto()  # for a place in the batch
    DECODING = auto()  # in the batch
    DECODED = auto()  # has all its tokens; its picture is due
    DELIVERED = auto()  # its picture, or that of a likelier candidate, has reached the caller
    ENDED = auto()  # cancelled or failed


@dataclass(eq=False)
class Prompt:
    """What the model reads for some images of a request."""

    text_tokens: list[int]
    negative_tokens: list[int] | None = None  # None without a negative prompt
    encoded: Any = None  # by the runner, once the first of the images is admitted


@dataclass(eq=False)
class Slot:
    """One candidate of an image: its state, its tokens so far, and the random numbers that its tokens are sampled with."""

    job: Job
    prompt: Prompt
    index: int  # the image's
    seed: int
    uniforms: list[float]  # 256, 0 <= u < 1
    state: SlotState = SlotState.WAITING
    tokens: list[int] = field(default_factory=list)
    likelihoods: list[float] = field(default_factory=list)  # of the tokens up to each, as logarithms; empty if best_of is 1
    admitted_at: float = 0.0  # to the batch, on the monotonic clock

    def add(self, token: int, log_likelihood: float) -> None:
        """Append a token, and its log-likelihood if the image has other candidates."""
        self.tokens.append(token)
        if self.job.request.sampling.best_of > 1:
            self.likelihoods.append(log_likelihood + (self.likelihoods[-1] if self.likelihoods else 0.0))

    def start_again(self) -> None:
        """Forget all tokens and wait for a place in the batch."""
        self.tokens.clear()
        self.likelihoods.clear()
        self.state = SlotState.WAITING

    def score_at(self, position: int) -> float:
        """Return the mean log-likelihood of the first tokens, in nats; 0 if this is the only candidate."""
        return self.likelihoods[position - 1] / position if self.likelihoods else 0.0

    @property
    def position(self) -> int:
        """How many tokens are sampled, 0 to 256; below 256 also the position of the next token."""
        return len(self.tokens)

    @property
    def steps_until_due(self) -> int:
        """How many tokens are missing until a picture of the image is due: a preview, or the finished one."""
        position = len(self.tokens)
        return _next_due(self.job.request.previews, position) - position


@lru_cache(4096)  # it is asked for each image at each step
def _next_due(previews: tuple[int, ...], position: int) -> int:
    """Return at how many tokens the next picture of an image is due."""
    return min([*(preview for preview in previews if preview > position), IMAGE_TOKEN_COUNT])


class Job:
    """A request in flight: its slots and its event queue. The engine's thread writes events, the caller's thread reads them."""

    def __init__(
        self,
        request: DrawingRequest,
        prompts: Sequence[Prompt],
        timeout: float | None = None,
        caller: str | None = None,
    ) -> None:
        """`prompts` has one for each image, `timeout` is how many seconds the request may take; None sets no limit."""
        self.request = request
        self.caller = caller  # whose requests take turns; None if the request has turns of its own
        candidates = range(request.sampling.best_of)
        self.slots = [
            Slot(self, prompt, index, seed, uniforms(seed, candidate))
            for index, (prompt, seed) in enumerate(zip(prompts, request.seeds, strict=True))
            for candidate in candidates
        ]
        self.waiting = deque(self.slots)  # the slots in state WAITING, next one first
        self.together = 1  # how many of them join the batch in one turn; more if another machine draws them as one
        self.reports_progress = False  # whether to send Progress events, each of which wakes the caller's thread
        self.submitted_at = time.monotonic()
        self._deadline = None if timeout is None else self.submitted_at + timeout
        self._place: int | None = None
        self._events: SimpleQueue[Event | Exception | None] = SimpleQueue()

    def candidates(self, index: int) -> list[Slot]:
        """Return the candidates of image `index`."""
        count = self.request.sampling.best_of
        return self.slots[index * count : (index + 1) * count]

    @property
    def is_over(self) -> bool:
        """Whether nothing of the request is left to do."""
        return all(slot.state in (SlotState.DELIVERED, SlotState.ENDED) for slot in self.slots)

    @property
    def undelivered_count(self) -> int:
        """How many images have not reached the caller, their candidates counted."""
        return sum(slot.state is not SlotState.DELIVERED for slot in self.slots)

    def tell(self, event: Event) -> None:
        """Put an event on the caller's queue."""
        self._events.put(event)

    def tell_progress(self, index: int) -> None:
        """Send the caller an image's progress if it has got far enough and the caller wants to know."""
        if self.reports_progress:
            candidates = self.candidates(index)
            rounds, rest = divmod(sum(each.position for each in candidates), PROGRESS_EVERY * len(candidates))
            if rest == 0:
                self.tell(Progress(index, PROGRESS_EVERY * rounds))

    def tell_place(self, place: int) -> None:
        """Send the caller the request's place in the queue, if it has changed."""
        if place != self._place:
            self._place = place
            self.tell(Queued(place))

    def finish(self, error: Exception | None = None) -> None:
        """End the request and its events; the caller gets `error`, if there is one."""
        for slot in self.slots:
            if slot.state is not SlotState.DELIVERED:
                slot.state = SlotState.ENDED
        self._events.put(error)

    def events(self, tick: float | None = None, *, progress: bool = True) -> Iterator[Event]:
        """Return the events until the request is done, with a `Tick` whenever none came for `tick` seconds.

        `progress=False` leaves out `Progress` events.
        Raises DeadlineExceeded, GenerationFailed, or EngineClosed if the engine stops first.
        """
        self.reports_progress = progress
        return self._read(tick)

    def _read(self, tick: float | None) -> Iterator[Event]:
        while (item := self._next(tick)) is not None:
            if isinstance(item, GenerationFailed):
                raise GenerationFailed(str(item)) from item.__cause__
            if isinstance(item, Exception):
                raise item
            yield item

    def _next(self, tick: float | None) -> Event | Exception | None:
        """Wait for the next event, a tick or the deadline. On the caller's thread, so that both work while the engine hangs."""
        timeout = tick
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded("the images were not done in time")
            timeout = left if tick is None else min(tick, left)
        try:
            return self._events.get(timeout=timeout)
        except Empty:
            return Tick()
