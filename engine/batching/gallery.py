"""Pictures that are due to be detokenized, and their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from engine.batching.job import Job, Slot, SlotState
from engine.picture import arrange_seamless, grid_of
from engine.request import IMAGE_TOKEN_COUNT

# Steps between two previews. One picture of Mini takes as long as 20 steps of a full batch, and decoding comes first.
PREVIEW_SPACING = 16


@dataclass(frozen=True)
class Picture:
    """A picture to show: an image as far as it is drawn, or several images joined without seams."""

    slots: tuple[Slot, ...]
    tokens_drawn: int

    @property
    def job(self) -> Job:
        """The job that the picture belongs to."""
        return self.slots[0].job

    @property
    def candidates(self) -> list[Slot]:
        """The candidates of its images, those that are not shown too."""
        return [candidate for slot in self.slots for candidate in self.job.candidates(slot.index)]

    @property
    def score(self) -> float | None:
        """The mean log-likelihood of its tokens in nats; None if its images have no other candidates."""
        if self.job.request.sampling.best_of == 1:
            return None
        return sum(slot.score_at(self.tokens_drawn) for slot in self.slots) / len(self.slots)

    @property
    def is_preview(self) -> bool:
        """Whether more tokens are to come."""
        return self.tokens_drawn < IMAGE_TOKEN_COUNT

    @property
    def is_wanted(self) -> bool:
        """Whether its request has not ended."""
        return self.slots[0].state is not SlotState.ENDED

    @property
    def grid(self) -> NDArray[Any]:
        """Its tokens, int64 [H, W]."""
        if len(self.slots) > 1:
            return arrange_seamless([slot.tokens[: self.tokens_drawn] for slot in self.slots])
        return grid_of(self.slots[0].tokens[: self.tokens_drawn])


class Gallery:
    """The pictures that are due: in order those that no caller may miss, then other previews, of each image only the newest."""

    def __init__(self, at_once: int, min_distinct_tokens: int = 1) -> None:
        """`at_once` is how many pictures the runner computes at once: none of them is ready before the others.

        An image with fewer different tokens than `min_distinct_tokens` is an empty sheet, not shown if there is another.
        """
        self._min_distinct_tokens = min_distinct_tokens
        self._owed: deque[Picture] = deque()  # finished ones, and previews of requests that want every one
        self._previews: dict[Slot, Picture] = {}
        self._steps_since_preview = PREVIEW_SPACING
        self._suspects: set[Job] = set()  # jobs whose pictures failed together, or for which memory ran out
        self.at_once = at_once

    def __bool__(self) -> bool:
        """Whether any picture is due."""
        return bool(self._owed or self._previews)

    def add(self, slot: Slot) -> None:
        """Make an image due as far as it is drawn, once its other candidates are as far; of them the likeliest is shown.

        A seamless picture becomes due with its last image.
        """
        job, position = slot.job, slot.position
        images = [job.candidates(index) for index in (range(len(job.request.seeds)) if job.request.seamless else [slot.index])]
        if any(each.position < position for candidates in images for each in candidates):
            return
        picture = Picture(tuple(self._best(candidates, position) for candidates in images), position)
        first = images[0][0]
        if picture.is_preview and not job.request.every_preview:
            self._previews[first] = picture
            return
        self._previews.pop(first, None)
        self._owed.append(picture)

    def take(self, is_decoding: bool, steps: int, most: int) -> list[Picture]:
        """Remove and return the next pictures to compute at once, all of one shape; one by one while any of them is a suspect.

        `steps` is how many tokens of each image were decoded since the last call. While images are decoded, at most `most`
        pictures are returned that no caller may miss; another preview only now and then, alone.
        """
        self._forget_unwanted()
        count = 1 if self._suspects else self.at_once
        self._steps_since_preview += steps
        if is_decoding:
            if not self._owed and self._steps_since_preview < PREVIEW_SPACING:
                return []
            count = min(count, most, max(1, len(self._owed)))
        taken: list[Picture] = []
        while len(taken) < count and self and self._fits(taken):
            taken.append(self._pop())
        if any(picture.is_preview for picture in taken):  # a preview that waited for the end of several steps delays no other
            self._steps_since_preview = max(0, min(self._steps_since_preview - PREVIEW_SPACING, steps - 1))
        return taken

    def note_success(self, picture: Picture) -> None:
        """Note that a picture was delivered: it is no suspect."""
        self._suspects.discard(picture.job)

    def failed_before(self, taken: Sequence[Picture]) -> bool:
        """Return whether these are a single picture that is a suspect."""
        return len(taken) == 1 and taken[0].job in self._suspects

    def start_again(self, taken: Sequence[Picture], *, are_suspects: bool) -> None:
        """Put finished pictures that were taken back at the front."""
        self._suspects = {picture.job for picture in taken} if are_suspects else set()
        self._owed.extendleft(picture for picture in reversed(taken) if not picture.is_preview)

    def forget_previews(self) -> None:
        """Drop every preview that is due, because half-drawn images start again."""
        self._previews.clear()
        self._owed = deque(picture for picture in self._owed if not picture.is_preview)

    def _best(self, candidates: Sequence[Slot], position: int) -> Slot:
        """Return the candidate whose first tokens are the likeliest, of equal ones the first; an empty sheet comes last."""

        def merit(candidate: Slot) -> tuple[bool, float]:
            is_full = position < IMAGE_TOKEN_COUNT or len(set(candidate.tokens)) >= self._min_distinct_tokens
            return is_full, candidate.score_at(position)

        return max(candidates, key=merit)

    def _fits(self, taken: Sequence[Picture]) -> bool:
        """Return whether the next picture has the shape of those taken."""
        return not taken or len(self._first().slots) == len(taken[0].slots)

    def _first(self) -> Picture:
        return self._owed[0] if self._owed else next(iter(self._previews.values()))

    def _pop(self) -> Picture:
        return self._owed.popleft() if self._owed else self._previews.pop(next(iter(self._previews)))

    def _forget_unwanted(self) -> None:
        self._suspects = {job for job in self._suspects if not job.is_over}
        self._owed = deque(picture for picture in self._owed if picture.is_wanted)
        self._previews = {slot: picture for slot, picture in self._previews.items() if picture.is_wanted}
