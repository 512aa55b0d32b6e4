"""A request that is drawn on other machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cluster.kind import Kind
from engine.batching.job import Job, Prompt, Slot, SlotState
from engine.events import Preview, Progress
from engine.request import DrawingRequest

_PROMPT = Prompt([])  # the replica that draws an image reads its prompt


class RemoteJob(Job):
    """A request at the front: what it has shown its caller already, how often its images were sent out, and to which kind."""

    def __init__(self, request: DrawingRequest, timeout: float | None, caller: str | None) -> None:
        super().__init__(request, [_PROMPT] * len(request.seeds), timeout, caller)
        # One replica draws all candidates of an image, because it compares them, and all images of a seamless picture.
        self.together = len(self.slots) if request.seamless else request.sampling.best_of
        self.reports_progress = True  # until the caller says otherwise, which may be after the first image is sent out
        self.kind: Kind | None = None  # of the machines that draw it; None before the first image is sent out
        self.sent: Counter[int] = Counter()  # by index, how often an image was sent out
        self._shown: dict[tuple[type, int], int] = {}  # the most tokens that the caller has seen of each image

    def slots_of(self, index: int) -> list[Slot]:
        """Return the slots that are drawn together with image `index`."""
        return self.slots if self.request.seamless else self.candidates(index)

    def unfinished(self, indices: Iterable[int]) -> list[Slot]:
        """Return the slots of images that were sent out and whose picture has not come."""
        slots = dict.fromkeys(slot for index in indices for slot in self.slots_of(index))
        return [slot for slot in slots if slot.state in (SlotState.DECODING, SlotState.DECODED)]

    def tell_news(self, event: Preview | Progress) -> None:
        """Send the caller an event, unless the image was drawn that far before, on a replica that was lost."""
        key = (type(event), event.index)
        if event.tokens_drawn > self._shown.get(key, 0):
            self._shown[key] = event.tokens_drawn
            self.tell(event)
