"""The engine: requests in, events out, the images of all callers drawn in one batch. One thread owns the model.

submit ─> queue ─> batch ─> events

Each step: _admit    let waiting images into the batch; encode new prompts
           _decode   draw the next tokens of every image, one or a few; an image needs 256
           _retire   free the slots of images that have all their tokens, or are cancelled
           _detokenize_due   turn finished pictures and previews into pixels and send them
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.batching.gallery import PICTURES_AT_ONCE, Gallery, Picture
from engine.batching.job import Job, Slot, SlotState
from engine.batching.limit import AdaptiveLimit
from engine.batching.scheduler import NO_LIMITS, CallerShare, Scheduler
from engine.batching.statistics import EngineState, Observer, Statistics
from engine.errors import EngineClosed, ForkedProcess, GenerationFailed
from engine.events import ImageDone, Preview, Progress
from engine.memory import explaining_exhausted_memory, is_memory_exhausted
from engine.picture import paint_undrawn
from engine.request import IMAGE_TOKEN_COUNT, DrawingRequest, SamplingSettings
from engine.runners import Runner
from engine.runners.runner import Draw
from engine.text import tokenize_prompt
from engine.weights.checkpoint import Checkpoint, ModelFiles

PROGRESS_EVERY = 8  # tokens
MAX_STEPS = PROGRESS_EVERY  # of a runner in one go: so long an image waits for its place, and a cancelled one for its end

_log = logging.getLogger(__name__)


class Engine:
    """A model and the running batch in which it draws the images of many callers."""

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
        self._scheduler = Scheduler(max_batch_size, max_queue, share)
        self._batch_limit = AdaptiveLimit(max_batch_size)
        self._picture_limit = AdaptiveLimit(PICTURES_AT_ONCE)
        self._statistics = Statistics(observer or Observer())
        self._gallery = Gallery()
        self._jobs: set[Job] = set()  # not over yet
        self._in_detokenizer: list[Picture] = []
        self._changed = threading.Condition()
        self._is_draining = self._is_closing = False
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
        return len(self._tokenize(prompt))

    def submit(self, request: DrawingRequest, timeout: float | None = None, caller: str | None = None) -> Job:
        """Queue a request of a caller, to be done within `timeout` seconds, and return its job.

        Raises InvalidRequest for more images than there is ever room for, QueueFull, EngineClosed.
        """
        self._check_process()
        with self._changed:
            self._check_room(request, caller)  # before any work, so that a refusal costs next to nothing
        negative_tokens = self._tokenize(request.negative_prompt) if request.negative_prompt.strip() else None
        job = Job(request, self._tokenize(request.prompt), negative_tokens, timeout, caller)
        with self._changed:
            self._check_room(request, caller)
            self._jobs.add(job)
            self._scheduler.add(job)
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Stop drawing a job: its slots are free by the next step. No effect on a job that is over, or in a forked process."""
        if self._is_forked:
            return
        with self._changed:
            if not job.is_over:
                self._statistics.cancelled(job.undelivered_count)
                self._end(job)
            self._changed.notify()

    def drain(self) -> None:
        """Refuse new requests; what is queued or in the batch is still drawn. Raises ForkedProcess."""
        self._check_process()
        with self._changed:
            self._is_draining = True

    def close(self, timeout: float | None = None) -> bool:
        """Stop the engine; unfinished requests end with EngineClosed. Return whether its thread ended in `timeout` seconds."""
        if self._is_forked:  # nothing runs here, and the lock may have been held when the process was forked
            return True
        self._end_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def state(self) -> EngineState:
        """A snapshot of the engine. Available while a step hangs, and in a forked process."""
        with nullcontext() if self._is_forked else self._changed:
            return self._statistics.snapshot(
                is_forked=self._is_forked,
                is_alive=self._thread.is_alive(),
                is_draining=self._is_draining or self._is_closing,
                images_waiting=self._scheduler.waiting_count,
                slots_in_use=len(self._scheduler.running),
                batch_limit=self._scheduler.batch_limit,
                max_queue=self._scheduler.max_queue,
            )

    def step(self) -> tuple[int, int]:
        """Draw the next tokens of every image in the batch and detokenize pictures that are due.

        Return the number of images, and of tokens of each.
        """
        self._retire()  # cancelled images
        self._admit()
        batch, steps = self._decode()
        self._retire()  # images that have all their tokens
        self._detokenize_due(max(1, steps))
        self._raise_limits(max(1, steps))
        return batch, steps

    def _run(self, load: Callable[[], tuple[Checkpoint | ModelFiles, Runner]]) -> None:
        """Load the model, then step while there is work. Runs on the engine's thread."""
        try:
            with explaining_exhausted_memory():
                checkpoint, self._runner = load()
            self.config, self._tokenizer = checkpoint.config, checkpoint.tokenizer
            self.known_words = checkpoint.known_words() if isinstance(checkpoint, ModelFiles) else None
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._is_loaded.set()
        try:
            while self._wait_for_work():
                self._statistics.steps_begin()
                batch = steps = 0
                try:
                    batch, steps = self.step()
                except Exception as error:
                    self._recover(error)
                self._statistics.steps_end(batch, steps)
        except BaseException:
            _log.critical("the engine's thread ends: nothing can be drawn any more", exc_info=True)
        finally:
            self._end_all()

    def _wait_for_work(self) -> bool:
        """Wait for work; return False once the engine is to close."""
        with self._changed:
            self._changed.wait_for(lambda: self._scheduler.has_work or self._gallery or self._is_closing)
            return not self._is_closing

    def _tokenize(self, prompt: str) -> list[int]:
        return tokenize_prompt(self._tokenizer, prompt, self.config)

    @property
    def _is_forked(self) -> bool:
        return os.getpid() != self._process

    def _check_process(self) -> None:
        if self._is_forked:
            raise ForkedProcess

    def _check_room(self, request: DrawingRequest, caller: str | None) -> None:
        if self._is_draining or self._is_closing:
            raise EngineClosed("the server is shutting down and takes no new work")
        seconds_per_step = self._statistics.seconds_per_step.value
        self._scheduler.check_room(len(request.seeds), seconds_per_step, caller, request.sampling.best_of)

    def _end_all(self) -> None:
        """End every request and take no more. Not left to the engine's thread, which may hang or be dead."""
        with self._changed:
            self._is_closing = True
            for job in list(self._jobs):
                self._end(job, EngineClosed("the engine stopped before this image was done"))
            self._changed.notify()

    def _end(self, job: Job, error: Exception | None = None) -> None:
        """End a job; its images leave the batch at the next step. The caller holds the lock."""
        self._jobs.discard(job)
        self._scheduler.drop(job)
        job.finish(error)

    def _retire(self) -> None:
        """Free the slots of images that are decoded or ended."""
        with self._changed:
            order = self._scheduler.retire()
        if order is not None:
            self._runner.rearrange(order)

    def _admit(self) -> None:
        """Admit waiting images to the batch; encode each prompt once."""
        with self._changed:
            admitted = self._scheduler.admit()
        for slot in admitted:
            slot.admitted_at = time.monotonic()
            self._statistics.waited(slot.admitted_at - slot.job.submitted_at)
        for job in dict.fromkeys(slot.job for slot in admitted):
            if job.encoded is None:
                self._encode(job)
        with self._changed:
            self._scheduler.running = [slot for slot in self._scheduler.running if slot.job.encoded is not None]
        encoded = [slot for slot in admitted if slot.job.encoded is not None]
        if admitted:
            self._runner.admit([slot.job.encoded for slot in encoded], [_draw_of(slot) for slot in encoded])

    def _encode(self, job: Job) -> None:
        """Encode a job's prompt; if that fails, only this job ends."""
        try:
            job.encoded = self._runner.encode(job.text_tokens, job.negative_tokens)
        except Exception as error:
            if is_memory_exhausted(error):
                raise
            self._fail([job], error)

    def _decode(self) -> tuple[int, int]:
        """Draw the next tokens of every image in the batch; return the number of images, and of tokens of each."""
        running = self._scheduler.running
        if not running:
            return 0, 0
        drawn = self._runner.draw(min(MAX_STEPS, *(slot.steps_until_due for slot in running)))
        if drawn.not_finite:
            error = ArithmeticError(f"the logits of {len(drawn.not_finite)} images are not finite")
            self._fail([running[row].job for row in drawn.not_finite], error)
        for tokens, likelihoods in zip(drawn.tokens.T.tolist(), drawn.likelihoods.T.tolist(), strict=True):
            for slot, token, likelihood in zip(running, tokens, likelihoods, strict=True):
                if slot.state is SlotState.DECODING:
                    slot.add(token, likelihood)
                    self._report_token(slot)
        return drawn.tokens.shape

    def _report_token(self, slot: Slot) -> None:
        """Report an image's progress, and pass it to the gallery when it has all its tokens or a preview is due."""
        job = slot.job
        if job.reports_progress:
            candidates = job.candidates(slot.index)
            rounds, rest = divmod(sum(each.position for each in candidates), PROGRESS_EVERY * len(candidates))
            if rest == 0:
                job.tell(Progress(slot.index, PROGRESS_EVERY * rounds))
        if slot.position == IMAGE_TOKEN_COUNT:
            with self._changed:  # the job may be cancelled at this moment
                if slot.state is SlotState.DECODING:
                    slot.state = SlotState.DECODED
            self._gallery.add(slot)
        elif job.request.has_preview_at(slot.position):
            self._gallery.add(slot)

    def _detokenize_due(self, steps: int) -> None:
        """Detokenize and deliver pictures that are due: at most one a step while images are decoded, because it delays them."""
        self._in_detokenizer = self._gallery.take(self._scheduler.has_work, steps)
        if self._in_detokenizer:
            pixels = self._runner.detokenize(np.stack([picture.grid for picture in self._in_detokenizer]))
            for picture, own in zip(list(self._in_detokenizer), pixels, strict=True):
                self._deliver(picture, own)
                self._in_detokenizer.remove(picture)  # if one fails, `_recover` finds it and those after it here
                self._gallery.note_success(picture)

    def _deliver(self, picture: Picture, pixels: NDArray[Any]) -> None:
        """Send a picture to its caller; the job ends with its last picture."""
        job, first = picture.job, picture.slots[0]
        if picture.is_preview:
            image = Image.fromarray(paint_undrawn(pixels, picture.tokens_drawn))
            job.tell(Preview(first.index, picture.tokens_drawn, image))
            return
        image = Image.fromarray(pixels)
        with self._changed:
            if first.state is SlotState.ENDED:  # cancelled meanwhile, and counted as such
                return
            job.tell(ImageDone(first.index, first.seed, image, picture.score))
            for slot in picture.candidates:
                slot.state = SlotState.DELIVERED
                self._statistics.drawn(time.monotonic() - slot.admitted_at)
            if job.is_over:
                self._end(job)

    def _recover(self, error: Exception) -> None:
        """End the requests that failed; retry if memory ran out or several pictures failed together.

        Waiting images, and decoded images that are not detokenized yet, are not touched. A seed draws the same image again.
        """
        pictures, self._in_detokenizer = self._in_detokenizer, []
        is_memory, batch = is_memory_exhausted(error), len(self._scheduler.running)
        if len(pictures) > 1:
            # Retry fewer at once (memory), or one by one (another error), so that only the faulty picture fails.
            self._gallery.start_again(pictures, are_suspects=not is_memory)
            if is_memory:
                self._picture_limit.halve(len(pictures))
                self._apply_limits(f"memory ran out while {len(pictures)} pictures were detokenized at once")
            if not self._scheduler.running:
                self._runner.reset()  # frees the memory of unused slots
        elif pictures and (not is_memory or batch <= 1 or self._gallery.failed_before(pictures)):
            self._fail([picture.job for picture in pictures], error)
        elif pictures and len(pictures[0].slots) > 1:
            # Memory, for a seamless picture, which is as large as its request: the batch is not to blame. Retry once.
            self._gallery.start_again(pictures, are_suspects=True)
        else:
            self._empty_batch(error, pictures)

    def _empty_batch(self, error: Exception, pictures: Sequence[Picture]) -> None:
        """Empty the batch. Its images end or, if memory ran out, are drawn again, half as many at once.

        `pictures` is one picture of one image, or empty. Such a picture needs little memory, so the batch has exhausted it.
        """
        batch = len(self._scheduler.running)
        with self._changed:
            unfinished = [slot for slot in self._scheduler.running if slot.state is SlotState.DECODING]
            if is_memory_exhausted(error) and batch > 1:
                self._gallery.start_again(pictures, are_suspects=True)
                self._gallery.forget_previews()
                self._scheduler.requeue(unfinished)
                self._batch_limit.halve(batch)
                self._apply_limits(f"memory ran out with {batch} images in the batch")
            else:
                self._fail([slot.job for slot in unfinished] + [picture.job for picture in pictures], error)
            self._scheduler.running = []
        self._runner.reset()

    def _raise_limits(self, steps: int) -> None:
        """Count successful steps; after enough of them, the limits double again."""
        if any([self._batch_limit.count_steps(steps), self._picture_limit.count_steps(steps)]):
            self._apply_limits("memory was sufficient for many steps")

    def _apply_limits(self, reason: str) -> None:
        """Set and log how many images are in the batch, and pictures detokenized, at once."""
        with self._changed:
            self._scheduler.batch_limit, self._gallery.at_once = self._batch_limit.value, self._picture_limit.value
        _log.warning(
            "%s; from now on at most %d images are drawn and %d pictures detokenized at once (see --max_batch_size)",
            reason,
            self._batch_limit.value,
            self._picture_limit.value,
        )

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        """End jobs whose images could not be drawn."""
        _log.error("drawing failed; %d requests end", len(set(jobs)), exc_info=error)
        with self._changed:
            for job in dict.fromkeys(jobs):
                if not job.is_over:
                    self._statistics.failed(job.undelivered_count)
                    failure = GenerationFailed("drawing failed inside the server")
                    failure.__cause__ = error
                    self._end(job, failure)


def _draw_of(slot: Slot) -> Draw:
    """Return how a slot's tokens are drawn."""
    sampling = slot.job.request.sampling
    return Draw(sampling, slot.uniforms, needs_likelihoods=sampling.best_of > 1)
