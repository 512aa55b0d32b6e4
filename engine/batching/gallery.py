"""Pictures that are due to be detokenized and shown, in which order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from engine.batching.job import Job, Slot
from engine.picture import arrange_seamless, grid_of
from engine.request import IMAGE_TOKEN_COUNT

# Steps between two previews: of Mini, a picture takes as long as 20 steps of a full batch, and decoding comes first.
PREVIEW_SPACING = 16
PICTURES_AT_ONCE = 16  # while nothing is decoded: a caller who comes meanwhile waits for no more


@dataclass(frozen=True)
class Picture:
    """Hold what to show: an image as far as it is drawn, or several joined without seams."""

    slots: tuple[Slot, ...]
    tokens_drawn: int

    @property
    def job(self) -> Job:
        """Return the job that the picture is for."""
        return self.slots[0].job

    @property
    def is_preview(self) -> bool:
        """Tell whether more is to be drawn."""
        return self.tokens_drawn < IMAGE_TOKEN_COUNT

    @property
    def grid(self) -> NDArray[Any]:
        """Return its tokens, int64 [H, W]."""
        if len(self.slots) > 1:
            return arrange_seamless([slot.tokens for slot in self.slots])
        return grid_of(self.slots[0].tokens[: self.tokens_drawn])


class Gallery:
    """Keep the pictures that are due: finished ones first, then previews; of an image only the newest."""

    def __init__(self) -> None:
        self._finished: deque[Picture] = deque()
        self._previews: dict[Slot, Picture] = {}
        self._steps_since_preview = PREVIEW_SPACING
        self._suspects: set[Job] = set()  # whose pictures failed together, or one because memory ran out
        self.at_once = PICTURES_AT_ONCE  # how many are shown at once at most

    def __bool__(self) -> bool:
        """Tell whether any picture is due."""
        return bool(self._finished or self._previews)

    def add(self, slot: Slot) -> None:
        """Make an image due as far as it is drawn; a seamless picture is due with its last image."""
        job = slot.job
        if not slot.is_drawn:
            self._previews[slot] = Picture((slot,), slot.position)
            return
        self._previews.pop(slot, None)
        if not job.request.seamless:
            self._finished.append(Picture((slot,), slot.position))
        elif job.is_drawn:
            self._finished.append(Picture(tuple(job.slots), slot.position))

    def take(self, is_decoding: bool) -> list[Picture]:
        """Take the next pictures that are still wanted, all of one shape; one by one while any is a suspect.

        While images are decoded it is to be asked once a step, and gives one: a finished one at any step, a preview now and then.
        """
        self._forget_unwanted()
        count = 1 if is_decoding or self._suspects else self.at_once
        self._steps_since_preview += 1
        if is_decoding and not self._finished and self._steps_since_preview < PREVIEW_SPACING:
            return []
        taken: list[Picture] = []
        while len(taken) < count and self and self._fits(taken):
            taken.append(self._pop())
        if any(picture.is_preview for picture in taken):
            self._steps_since_preview = 0
        return taken

    def is_through(self, picture: Picture) -> None:
        """Take note that a picture was shown."""
        self._suspects.discard(picture.job)

    def failed_before(self, taken: Sequence[Picture]) -> bool:
        """Tell whether these are a single picture, and a suspect."""
        return len(taken) == 1 and taken[0].job in self._suspects

    def start_again(self, taken: Sequence[Picture], *, are_suspects: bool) -> None:
        """Make finished pictures that were taken the next ones again."""
        self._suspects = {picture.job for picture in taken} if are_suspects else set()
        self._finished.extendleft(picture for picture in reversed(taken) if not picture.is_preview)

    def forget_previews(self) -> None:
        """Drop every preview that is due, as half-drawn images start again."""
        self._previews.clear()

    def _fits(self, taken: Sequence[Picture]) -> bool:
        """Tell whether the next picture has the shape of those that are taken."""
        return not taken or len(self._first().slots) == len(taken[0].slots)

    def _first(self) -> Picture:
        return self._finished[0] if self._finished else next(iter(self._previews.values()))

    def _pop(self) -> Picture:
        return self._finished.popleft() if self._finished else self._previews.pop(next(iter(self._previews)))

    def _forget_unwanted(self) -> None:
        self._suspects = {job for job in self._suspects if not job.is_over}
        self._finished = deque(picture for picture in self._finished if not picture.job.is_over)
        self._previews = {slot: picture for slot, picture in self._previews.items() if not slot.job.is_over}
