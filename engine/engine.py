"""The engine: requests in, images out, all callers' images drawn together. One thread owns the model.

submit ─> waiting ─> _admit ─> [ _decode ─> _show ─> _deliver ] x 256 ─> events
                     (encode)   (one token     (previews)  (detokenize,
                                 an image)                  free slots)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from PIL import Image

from engine.checkpoint import Checkpoint
from engine.errors import EngineClosed, GenerationFailed
from engine.job import Job
from engine.picture import arrange_seamless, fill_undrawn, grids_of, paint_undrawn
from engine.request import PREVIEW_EVERY, ImageDone, ImageRequest, Preview, Progress
from engine.runners import Runner
from engine.sampler import sample
from engine.scheduler import Scheduler
from engine.text import tokenize_prompt

PROGRESS_EVERY = 8  # tokens

_log = logging.getLogger(__name__)


class Engine:
    """Draw images for many callers in one running batch."""

    def __init__(self, load: Callable[[], tuple[Checkpoint, Runner]], max_batch_size: int) -> None:
        """Load the model on the engine's own thread, and start it; raise what `load` raises.

        On that thread, because OpenMP keeps a team of threads for every thread that computes: a second team makes more threads
        than cores, they then sleep between any two operations, and a small model draws at a third of its speed.
        """
        self._scheduler = Scheduler(max_batch_size)
        self._changed = threading.Condition()
        self._is_closing = False
        self._failure: BaseException | None = None
        self._is_loaded = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(load,), name="engine", daemon=True)
        self._thread.start()
        self._is_loaded.wait()
        if self._failure is not None:
            raise self._failure

    def count_text_tokens(self, prompt: str) -> int:
        """Count the tokens that the model reads of a prompt, start and end token included."""
        return len(tokenize_prompt(self._tokenizer, prompt, self.config))

    def submit(self, request: ImageRequest) -> Job:
        """Queue a request; its events come on the job that is returned.

        Raises EngineClosed.
        """
        job = Job(request, tokenize_prompt(self._tokenizer, request.prompt, self.config))
        with self._changed:
            if self._is_closing:
                raise EngineClosed("the server is shutting down and takes no new work")
            self._scheduler.add(job)
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Stop drawing a request: its slots are free by the next step."""
        with self._changed:
            job.is_cancelled = True
            self._scheduler.drop(job)
            self._changed.notify()
        job.finish()

    def close(self) -> None:
        """Stop: requests under way end with EngineClosed."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def step(self) -> None:
        """Draw one more token of every image in the batch."""
        self._admit()
        if self._scheduler.running:
            self._decode()
            self._show()
            self._deliver()

    def _run(self, load: Callable[[], tuple[Checkpoint, Runner]]) -> None:
        """Load, then step while there is work: what the engine's own thread does."""
        try:
            checkpoint, self._runner = load()
            self.config, self._tokenizer = checkpoint.config, checkpoint.tokenizer
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._is_loaded.set()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._scheduler.has_work or self._is_closing)
                if self._is_closing:
                    self._end_all(EngineClosed("the server shut down before this image was done"))
                    return
            try:
                self.step()
            except Exception as error:
                _log.exception("a step failed; the requests in it end")
                failure = GenerationFailed("drawing failed inside the server")
                failure.__cause__ = error
                with self._changed:
                    self._end_all(failure)

    def _end_all(self, error: Exception) -> None:
        """End every request with an error, and empty the batch."""
        for job in self._scheduler.clear():
            job.finish(error)
        self._runner.rearrange([])

    def _admit(self) -> None:
        """Let waiting images into the batch; encode each prompt once."""
        with self._changed:
            admitted = self._scheduler.admit()
        for slot in admitted:
            if slot.job.encoded is None:
                slot.job.encoded = self._runner.encode(slot.job.text_tokens)
        self._runner.admit([slot.job.encoded for slot in admitted])

    def _decode(self) -> None:
        """Draw the next token of every image, each at its own position."""
        running = self._scheduler.running
        start = self.config.decoder_start_token_id
        logits = self._runner.step(
            [slot.tokens[-1] if slot.tokens else start for slot in running], [slot.position for slot in running]
        )
        chances = [slot.chances[slot.position] for slot in running]
        for slot, token in zip(running, sample(logits, [s.settings for s in running], chances).tolist(), strict=True):
            slot.tokens.append(token)
            if slot.position % PROGRESS_EVERY == 0:
                slot.job.tell(Progress(slot.index, slot.position))

    def _show(self) -> None:
        """Send previews that are due."""
        due = [
            slot
            for slot in self._scheduler.running
            if slot.job.request.previews
            and slot.position % PREVIEW_EVERY == 0
            and not slot.is_drawn
            and not slot.job.is_cancelled
        ]
        if due:
            for slot, pixels in zip(due, self._runner.detokenize(fill_undrawn(due)), strict=True):
                image = paint_undrawn(pixels, slot.position)
                slot.job.tell(Preview(slot.index, slot.position, Image.fromarray(image)))

    def _deliver(self) -> None:
        """Hand over images that are done, and free their slots and those of cancelled requests."""
        drawn = [slot for slot in self._scheduler.running if slot.is_drawn and not slot.job.is_cancelled]
        with self._changed:
            order = self._scheduler.retire(lambda slot: slot.is_drawn or slot.job.is_cancelled)
        if order is not None:
            self._runner.rearrange(order)
        single = [slot for slot in drawn if not slot.job.request.seamless]
        if single:
            for slot, pixels in zip(single, self._runner.detokenize(grids_of(single)), strict=True):
                slot.job.tell(ImageDone(slot.index, slot.seed, Image.fromarray(pixels)))
        for job in dict.fromkeys(slot.job for slot in drawn):
            if job.is_drawn:
                if job.request.seamless:
                    self._deliver_seamless(job)
                job.finish()

    def _deliver_seamless(self, job: Job) -> None:
        """Detokenize all images of a job as one picture."""
        pixels = self._runner.detokenize(arrange_seamless(job.slots))[0]
        job.tell(ImageDone(0, job.slots[0].seed, Image.fromarray(pixels)))
