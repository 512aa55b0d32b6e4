"""A replica: a whole engine with its batch, behind the link."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.kind import kind_here
from cluster.messages import About, Failure, Message, Report
from dalle_model import DalleModel, Drawing, Observer
from engine.errors import DalleError
from engine.events import Progress, Queued
from engine.request import IMAGE_TOKEN_COUNT, DrawingRequest
from host.malloc import share_arenas

GATHER_SECONDS = 0.1  # progress waits so long for more, because each message costs the front a millisecond
_FORGET_SECONDS = 10.0  # a front that has not asked for so long is gone
_KEPT_STEPS = 4096  # measurements for a front that has stopped asking
_PROMPT = "a red circle on a blue background"


@dataclass(frozen=True)
class ReplicaSettings:
    """What a replica loads; the fields are `DalleModel`'s."""

    version: str
    models_root: Path | None = None
    device: str = "auto"
    runner: str = "auto"
    precision: str = "auto"
    threads: int = 0
    cache_dir: Path | None = None
    max_batch_size: int = 32
    step_timeout: float = 60.0

    @property
    def drawing(self) -> str:
        """The settings that decide what is drawn, as one line."""
        return f"{self.version} {self.runner} {self.precision} {self.device}"


@dataclass
class _Front:
    """A front, as the replica knows it: when it last asked, how many images it has, and the steps that it has not heard of."""

    asked_at: float
    images: int
    steps: deque[tuple[float, int]]


class _Fronts(Observer):
    """The fronts that ask a replica; each is told every step once."""

    def __init__(self) -> None:
        self._fronts: dict[str, _Front] = {}
        self._lock = threading.Lock()

    def step_took(self, seconds: float, batch: int) -> None:
        """Keep a step's time for each front."""
        with self._lock:
            for front in self._fronts.values():
                front.steps.append((seconds, batch))

    def hear(self, name: str, images: int) -> tuple[tuple[float, int], ...]:
        """Note a front's question; return the steps since its last one."""
        now = time.monotonic()
        with self._lock:
            steps = tuple(self._fronts[name].steps) if name in self._fronts else ()
            self._fronts[name] = _Front(now, images, deque(maxlen=_KEPT_STEPS))
            self._fronts = {key: front for key, front in self._fronts.items() if now - front.asked_at < _FORGET_SECONDS}
        return steps

    @property
    def images(self) -> int:
        """How many images wait or are drawn at all fronts that still ask."""
        now = time.monotonic()
        with self._lock:
            return sum(front.images for front in self._fronts.values() if now - front.asked_at < _FORGET_SECONDS)


class Replica:
    """One machine's model, for the fronts. Coroutines run on the event loop of the replica's process."""

    def __init__(self, settings: ReplicaSettings, prepare: Callable[[], None] | None = None) -> None:
        """Load the model and draw a first picture. If that fails, `describe` says why: raised here, it would be tried for ever.

        `prepare` is called first, in the replica's process.
        """
        if prepare is not None:
            prepare()
        share_arenas()
        self._settings = settings
        self._fronts = _Fronts()
        self._model: DalleModel | None = None
        try:
            self._model = self._load()
            kind = kind_here(settings.drawing, self._model.generate_images(_PROMPT, seed=0)[0])
            self._about: About | Failure = About(kind, self._model.sampling, self._model.known_words, socket.gethostname())
        except DalleError as error:
            self._about = Failure.of(error)

    def _load(self) -> DalleModel:
        own = self._settings
        return DalleModel(
            own.version,
            models_root=own.models_root,
            device=own.device,
            runner=own.runner,
            precision=own.precision,
            threads=own.threads,
            cache_dir=own.cache_dir,
            max_batch_size=own.max_batch_size,
            observer=self._fronts,
        )

    async def describe(self, replica: str = "") -> About | Failure:
        """Return what the replica is, or why it could not load its model; the router reads `replica`."""
        return self._about

    async def ask(self, front: str, images: int, replica: str = "") -> Report:
        """Return how the replica is. `images` wait or are drawn at the front."""
        return Report(self._loaded.state, self._fronts.hear(front, images))

    async def count_text_tokens(self, prompt: str, replica: str = "") -> int:
        """Return how many tokens of a prompt the model reads."""
        return self._loaded.count_text_tokens(prompt)

    async def draw(
        self, request: DrawingRequest, has_progress: bool = True, replica: str = ""
    ) -> AsyncGenerator[Sequence[Message], None]:
        """Draw a request and yield its events, several at a time. A generator that is closed cancels it.

        An asynchronous one: Ray never closes a plain one.
        """
        loop, line = asyncio.get_running_loop(), asyncio.Queue[Message | None]()

        def put(message: Message | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: the replica stops
                loop.call_soon_threadsafe(line.put_nowait, message)

        try:
            drawing = self._loaded.start(request)
        except DalleError as error:
            yield [Failure.of(error)]
            return
        threading.Thread(target=_pump, args=(drawing, has_progress, put), daemon=True).start()
        try:
            is_over = False
            while not is_over:
                messages = await _gather(line)
                is_over = messages[-1] is None
                if told := [message for message in messages if message is not None]:
                    yield told
        finally:
            drawing.cancel()

    def check_health(self) -> None:
        """Raise if only a new process helps; Ray Serve then starts one. A model that could not be loaded stays, to say why."""
        if self._model is None:
            return
        state = self._model.state
        if not state.is_alive or state.seconds_in_step > self._settings.step_timeout:
            raise RuntimeError("the engine is dead, or a step hangs")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return how many images wait or are drawn, at all fronts together."""
        return {"images": float(self._fronts.images)}

    def __del__(self) -> None:
        """Stop the engine."""
        if getattr(self, "_model", None) is not None:
            self._loaded.close(5)

    @property
    def _loaded(self) -> DalleModel:
        assert self._model is not None, "the front sends nothing to a replica without a model"
        return self._model


def _pump(drawing: Drawing, has_progress: bool, put: Callable[[Message | None], None]) -> None:
    """Put a drawing's events on a line, and None at their end. Runs on a thread of its own."""
    try:
        for event in drawing.events():
            is_wanted = has_progress or not isinstance(event, Progress) or event.tokens_drawn == IMAGE_TOKEN_COUNT
            if is_wanted and not isinstance(event, Queued):  # the front has the queue
                put(event)
    except DalleError as error:
        put(Failure.of(error))
    put(None)


async def _gather(line: asyncio.Queue[Message | None]) -> list[Message | None]:
    """Wait for a message, and for more if there is no hurry; return all that are there."""
    loop = asyncio.get_running_loop()
    messages = [await line.get()]
    end = loop.time() + GATHER_SECONDS
    while True:
        while not line.empty():
            messages.append(line.get_nowait())
        left = end - loop.time()
        if left <= 0 or any(_is_urgent(message) for message in messages):
            return messages
        with suppress(TimeoutError):
            messages.append(await asyncio.wait_for(line.get(), left))


def _is_urgent(message: Message | None) -> bool:
    """Return whether somebody waits for a message. Nobody does for progress, until all tokens are drawn and a slot is free."""
    return not isinstance(message, Progress) or message.tokens_drawn == IMAGE_TOKEN_COUNT
