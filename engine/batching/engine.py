"""The engine: requests in, events out. One thread owns the model and draws the images of all callers in one batch.

submit ─> JobQueue ─> Batch.step, again and again ─> events
                      Recovery, when a step fails
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext

from engine.batching.batch import Batch
from engine.batching.job import Job, Prompt
from engine.batching.job_queue import JobQueue
from engine.batching.recovery import Recovery
from engine.batching.scheduler import NO_LIMITS, CallerShare, Scheduler
from engine.batching.statistics import EngineState, Observer, Statistics
from engine.errors import ForkedProcess
from engine.memory import explaining_exhausted_memory
from engine.request import DrawingRequest, SamplingSettings
from engine.runners import Runner
from engine.text import tokenize_prompt
from engine.weights.checkpoint import Checkpoint, ModelFiles

_log = logging.getLogger(__name__)


class Engine:
    """A model, and the thread that draws the images of many callers with it. Satisfies `DrawingEngine`."""

    def __init__(
        self,
        load: Callable[[], tuple[Checkpoint | ModelFiles, Runner]],
        max_batch_size: int,
        max_queue: int | None = None,
        observer: Observer | None = None,
        share: CallerShare = NO_LIMITS,
    ) -> None:
        """Start the engine's thread and load the model on it; raise what `load` raises.

        The model is loaded on that thread because OpenMP creates a pool of threads for each thread that computes. Two pools have
        more threads than cores, which makes a small model three times slower.
        """
        self._process = os.getpid()
        self._statistics = Statistics(observer or Observer())
        self._queue = JobQueue(Scheduler(max_batch_size, max_queue, share), self._statistics)
        self._failure: BaseException | None = None
        self._is_loaded = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(load,), name="engine", daemon=True)
        self._thread.start()
        self._is_loaded.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def sampling(self) -> SamplingSettings:
        """The settings that the model was made for."""
        return self.config.sampling

    def count_text_tokens(self, prompt: str) -> int:
        """Return how many tokens of a prompt the model reads, start and end token included."""
        return len(self._tokenize(self._completed(prompt)))

    def submit(self, request: DrawingRequest, timeout: float | None = None, caller: str | None = None) -> Job:
        """Queue a request of a caller, to be done within `timeout` seconds, and return its job.

        Raises InvalidRequest for more images than there is ever room for, QueueFull, EngineClosed.
        """
        self._check_process()
        self._queue.check_room(request, caller)  # before any work, so that a refusal costs next to nothing
        job = Job(request, self._prompts(request), timeout, caller)
        self._queue.add(job)
        return job

    def cancel(self, job: Job) -> None:
        """Stop drawing a job: its slots are free by the next step. No effect on a job that is over, or in a forked process."""
        if not self._is_forked:
            self._queue.cancel(job)

    def drain(self) -> None:
        """Refuse new requests; what is queued or in the batch is still drawn. Raises ForkedProcess."""
        self._check_process()
        self._queue.drain()

    def close(self, timeout: float | None = None) -> bool:
        """Stop the engine; unfinished requests end with EngineClosed. Return whether its thread ended in `timeout` seconds."""
        if self._is_forked:  # nothing runs here, and the lock may have been held when the process was forked
            return True
        self._queue.close()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def state(self) -> EngineState:
        """A snapshot of the engine. Available while a step hangs, and in a forked process."""
        with nullcontext() if self._is_forked else self._queue.lock:
            return self._queue.snapshot(is_forked=self._is_forked, is_alive=self._thread.is_alive())

    def _run(self, load: Callable[[], tuple[Checkpoint | ModelFiles, Runner]]) -> None:
        """Load the model, then draw until the end. Runs on the engine's thread."""
        try:
            with explaining_exhausted_memory():
                checkpoint, runner = load()
            self.config, self._tokenizer = checkpoint.config, checkpoint.tokenizer
            self.known_words = checkpoint.known_words() if isinstance(checkpoint, ModelFiles) else None
            self._queue.scheduler.best_of = self.sampling.best_of
            self._batch = Batch(runner, self._queue, self._statistics, self.config.min_distinct_tokens)
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._is_loaded.set()
        try:
            self._draw()
        except BaseException:
            _log.critical("the engine's thread ends: nothing can be drawn any more", exc_info=True)
        finally:
            self._queue.close()

    def _draw(self) -> None:
        """Step while there is work, until the queue is closed."""
        recovery = Recovery(self._batch, self._queue)
        while self._queue.wait_for_work(has_pictures=bool(self._batch.gallery)):
            self._statistics.steps_begin()
            images = steps = 0
            try:
                images, steps = self._batch.step()
                recovery.note_steps(max(1, steps))
            except Exception as error:
                recovery.recover(error)
            self._statistics.steps_end(images, steps)

    def _prompts(self, request: DrawingRequest) -> list[Prompt]:
        """Return what the model reads for each image of a request; images that read the same share it."""
        negative_tokens = self._tokenize(request.negative_prompt) if request.negative_prompt.strip() else None
        variants = request.seeds[:1] * len(request.seeds) if request.seamless else request.seeds
        texts = [self._completed(request.prompt, variant) for variant in variants]
        prompts = {text: Prompt(self._tokenize(text), negative_tokens) for text in dict.fromkeys(texts)}
        return [prompts[text] for text in texts]

    def _completed(self, prompt: str, variant: int = 0) -> str:
        """Return a prompt with what it leaves unsaid, if the model has words for that; other seeds may have other words."""
        return prompt if self.known_words is None else self.known_words.complete(prompt, variant)

    def _tokenize(self, prompt: str) -> list[int]:
        return tokenize_prompt(self._tokenizer, prompt, self.config)

    @property
    def _is_forked(self) -> bool:
        return os.getpid() != self._process

    def _check_process(self) -> None:
        if self._is_forked:
            raise ForkedProcess
