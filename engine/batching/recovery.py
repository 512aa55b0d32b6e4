"""What happens after a failure: who ends, what is tried again, and how many images are drawn at once from then on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from engine.batching.batch import Batch
from engine.batching.gallery import Picture
from engine.batching.job import SlotState
from engine.batching.job_queue import JobQueue
from engine.batching.limit import AdaptiveLimit
from engine.memory import is_memory_exhausted

_log = logging.getLogger(__name__)


class Recovery:
    """The recovery of a batch from steps that failed, and its limits: halved when memory ran out, raised after good steps."""

    def __init__(self, batch: Batch, queue: JobQueue) -> None:
        self._batch, self._gallery, self._queue, self._scheduler = batch, batch.gallery, queue, queue.scheduler
        self._batch_limit = AdaptiveLimit(queue.scheduler.batch_limit)
        self._picture_limit = AdaptiveLimit(batch.gallery.at_once)

    def recover(self, error: Exception) -> None:
        """End the requests that failed; retry if memory ran out or several pictures failed together.

        Waiting images, and decoded images that are not detokenized yet, are not touched. A seed draws the same image again.
        """
        pictures, self._batch.in_detokenizer = self._batch.in_detokenizer, []
        is_memory, images = is_memory_exhausted(error), len(self._scheduler.running)
        if len(pictures) > 1:
            # Retry fewer at once (memory), or one by one (another error), so that only the faulty picture fails.
            self._gallery.start_again(pictures, are_suspects=not is_memory)
            if is_memory:
                self._picture_limit.halve(len(pictures))
                self._apply_limits(f"memory ran out while {len(pictures)} pictures were detokenized at once")
            if not self._scheduler.running:
                self._batch.runner.reset()  # frees the memory of unused slots
        elif pictures and (not is_memory or images <= 1 or self._gallery.failed_before(pictures)):
            self._batch.fail([picture.job for picture in pictures], error)
        elif pictures and len(pictures[0].slots) > 1:
            # Memory, for a seamless picture, which is as large as its request: the batch is not to blame. Retry once.
            self._gallery.start_again(pictures, are_suspects=True)
        else:
            self._empty_batch(error, pictures)

    def note_steps(self, count: int) -> None:
        """Count steps that did not fail; after enough of them, the limits double again."""
        if any([self._batch_limit.count_steps(count), self._picture_limit.count_steps(count)]):
            self._apply_limits("memory was sufficient for many steps")

    def _empty_batch(self, error: Exception, pictures: Sequence[Picture]) -> None:
        """Empty the batch. Its images end or, if memory ran out, are drawn again, half as many at once.

        `pictures` is one picture of one image, or empty. Such a picture needs little memory, so the batch has exhausted it.
        """
        images = len(self._scheduler.running)
        with self._queue.lock:
            unfinished = [slot for slot in self._scheduler.running if slot.state is SlotState.DECODING]
            if is_memory_exhausted(error) and images > 1:
                self._gallery.start_again(pictures, are_suspects=True)
                self._gallery.forget_previews()
                self._scheduler.requeue(unfinished)
                self._batch_limit.halve(images)
                self._apply_limits(f"memory ran out with {images} images in the batch")
            else:
                self._batch.fail([slot.job for slot in unfinished] + [picture.job for picture in pictures], error)
            self._scheduler.running = []
        self._batch.runner.reset()

    def _apply_limits(self, reason: str) -> None:
        """Set and log how many images are in the batch, and pictures detokenized, at once."""
        with self._queue.lock:
            self._scheduler.batch_limit, self._gallery.at_once = self._batch_limit.value, self._picture_limit.value
        _log.warning(
            "%s; from now on at most %d images are drawn and %d pictures detokenized at once (see --max_batch_size)",
            reason,
            self._batch_limit.value,
            self._picture_limit.value,
        )
