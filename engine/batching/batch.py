"""The running batch: the images of all callers that are drawn together, on the engine's thread.

Each step: _retire   free the slots of images that are cancelled
           _admit    let waiting images in; encode new prompts
           _decode   draw the next tokens of every image, one or a few; an image needs 256
           _retire   free the slots of images that have all their tokens
           _detokenize_due   turn finished pictures and previews into pixels and send them
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.batching.gallery import Gallery, Picture
from engine.batching.job import PROGRESS_EVERY, Job, Slot, SlotState
from engine.batching.job_queue import JobQueue
from engine.batching.statistics import Statistics
from engine.errors import GenerationFailed
from engine.events import ImageDone, Preview
from engine.memory import is_memory_exhausted
from engine.picture import paint_undrawn
from engine.request import IMAGE_TOKEN_COUNT
from engine.runners import Runner
from engine.runners.runner import Draw

MAX_STEPS = 2 * PROGRESS_EVERY  # of a runner in one go: so long an image waits for its place, and a cancelled one for its end

_log = logging.getLogger(__name__)


class Batch:
    """The images that are drawn, a runner that computes their tokens and pixels, and the pictures that are due."""

    def __init__(self, runner: Runner, queue: JobQueue, statistics: Statistics, min_distinct_tokens: int = 1) -> None:
        """An image with fewer different tokens than `min_distinct_tokens` is an empty sheet."""
        self.runner = runner
        self.gallery = Gallery(runner.pictures_at_once, min_distinct_tokens)
        self.in_detokenizer: list[Picture] = []  # of a step that fails, those that are not delivered
        self._queue, self._scheduler, self._statistics = queue, queue.scheduler, statistics

    def step(self) -> tuple[int, int]:
        """Draw the next tokens of every image in the batch and detokenize pictures that are due.

        Return the number of images, and of tokens of each.
        """
        self._retire()
        self._admit()
        images, steps = self._decode()
        self._retire()
        self._detokenize_due(max(1, steps))
        return images, steps

    def fail(self, jobs: Iterable[Job], error: Exception) -> None:
        """End jobs whose images could not be drawn; log why."""
        unique = dict.fromkeys(jobs)
        _log.error("drawing failed; %d requests end", len(unique), exc_info=error)
        for job in unique:
            failure = GenerationFailed("drawing failed inside the server")
            failure.__cause__ = error
            self._queue.fail(job, failure)

    def _retire(self) -> None:
        """Free the slots of images that are decoded or ended."""
        with self._queue.lock:
            order = self._scheduler.retire()
        if order is not None:
            self.runner.rearrange(order)

    def _admit(self) -> None:
        """Admit waiting images to the batch; encode each prompt once. If that fails, only its request ends."""
        with self._queue.lock:
            admitted = self._scheduler.admit()
        for slot in admitted:
            slot.admitted_at = time.monotonic()
            self._statistics.waited(slot.admitted_at - slot.job.submitted_at)
            if slot.prompt.encoded is None and slot.state is not SlotState.ENDED:
                self._encode(slot)
        with self._queue.lock:
            self._scheduler.running = [slot for slot in self._scheduler.running if slot.prompt.encoded is not None]
        encoded = [slot for slot in admitted if slot.prompt.encoded is not None]
        if encoded:
            self.runner.admit([slot.prompt.encoded for slot in encoded], [_draw_of(slot) for slot in encoded])

    def _encode(self, slot: Slot) -> None:
        """Encode a slot's prompt; if that fails, its request ends."""
        prompt = slot.prompt
        try:
            prompt.encoded = self.runner.encode(prompt.text_tokens, prompt.negative_tokens)
        except Exception as error:
            if is_memory_exhausted(error):
                raise
            self.fail([slot.job], error)

    def _decode(self) -> tuple[int, int]:
        """Draw the next tokens of every image; return the number of images, and of tokens of each."""
        running = self._scheduler.running
        if not running:
            return 0, 0
        drawn = self.runner.draw(min(MAX_STEPS, *(slot.steps_until_due for slot in running)))
        if drawn.not_finite:
            error = ArithmeticError(f"the logits of {len(drawn.not_finite)} images are not finite")
            self.fail([running[row].job for row in drawn.not_finite], error)
        for tokens, likelihoods in zip(drawn.tokens.T.tolist(), drawn.likelihoods.T.tolist(), strict=True):
            for slot, token, likelihood in zip(running, tokens, likelihoods, strict=True):
                if slot.state is SlotState.DECODING:
                    slot.add(token, likelihood)
                    self._note_token(slot)
        return drawn.tokens.shape

    def _note_token(self, slot: Slot) -> None:
        """Report an image's progress, and pass it to the gallery when it has all its tokens or a preview is due."""
        slot.job.tell_progress(slot.index)
        if slot.position == IMAGE_TOKEN_COUNT:
            with self._queue.lock:  # the job may be cancelled at this moment
                if slot.state is SlotState.DECODING:
                    slot.state = SlotState.DECODED
            self.gallery.add(slot)
        elif slot.job.request.has_preview_at(slot.position):
            self.gallery.add(slot)

    def _detokenize_due(self, steps: int) -> None:
        """Detokenize and deliver pictures that are due.

        They delay other images: so while these are decoded, there are at most as many pictures as steps. Else as many as
        the runner computes at once, so that a new request waits no longer.
        """
        left = steps if self._scheduler.running else 1
        while left > 0:
            self.in_detokenizer = self.gallery.take(self._scheduler.has_work, steps, left)
            if not self.in_detokenizer:
                return
            left, steps = left - len(self.in_detokenizer), 0
            pixels = self.runner.detokenize(np.stack([picture.grid for picture in self.in_detokenizer]))
            for picture, own in zip(list(self.in_detokenizer), pixels, strict=True):
                self._deliver(picture, own)
                self.in_detokenizer.remove(picture)
                self.gallery.note_success(picture)

    def _deliver(self, picture: Picture, pixels: NDArray[np.uint8]) -> None:
        """Send a picture to its caller."""
        first = picture.slots[0]
        if picture.is_preview:
            image = Image.fromarray(paint_undrawn(pixels, picture.tokens_drawn))
            picture.job.tell(Preview(first.index, picture.tokens_drawn, image))
        else:
            done = ImageDone(first.index, first.seed, Image.fromarray(pixels), picture.score)
            self._queue.deliver(picture.candidates, done)


def _draw_of(slot: Slot) -> Draw:
    """Return how a slot's tokens are drawn."""
    sampling = slot.job.request.sampling
    return Draw(sampling, slot.uniforms, needs_likelihoods=sampling.best_of > 1)
