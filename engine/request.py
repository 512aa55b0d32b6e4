"""The request: what to draw, and how tokens are sampled."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace
from typing import Any

from consts import MAX_BEST_OF, MAX_SEED
from engine.errors import InvalidRequest

TEXT_TOKEN_COUNT = 64  # of a prompt, at most; start and end token included
IMAGE_TOKEN_COUNT = 256  # 16 x 16; there is no end token
PREVIEW_EVERY = 32  # tokens, as in min-dalle
PREVIEWS = tuple(range(PREVIEW_EVERY, IMAGE_TOKEN_COUNT, PREVIEW_EVERY))


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are sampled from logits, and how many candidates of an image. Raises InvalidRequest for a meaningless value."""

    temperature: float = 1.0
    top_k: int = 256
    supercondition_factor: float = 16.0  # guidance
    best_of: int = 1  # candidates drawn for each image, of which the likeliest is shown

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.temperature > 0:
            raise InvalidRequest("temperature", "temperature must be above 0")
        if self.top_k < 1:
            raise InvalidRequest("top_k", "top_k must be at least 1")
        if not math.isfinite(self.supercondition_factor):
            raise InvalidRequest("supercondition_factor", "supercondition_factor must be a finite number")
        if not 1 <= self.best_of <= MAX_BEST_OF:
            raise InvalidRequest("best_of", f"best_of must be from 1 to {MAX_BEST_OF}")

    def override(
        self,
        temperature: float | None = None,
        top_k: int | None = None,
        supercondition_factor: float | None = None,
        best_of: int | None = None,
    ) -> SamplingSettings:
        """Return these settings with the values that are not None in place of their own."""
        given: dict[str, Any] = {
            "temperature": temperature,
            "top_k": top_k,
            "supercondition_factor": supercondition_factor,
            "best_of": best_of,
        }
        return replace(self, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class DrawingRequest:
    """One prompt, and the images to draw from it.

    Image i has the seed `seeds[i]`, and does not depend on the other images of the batch. A seamless drawing is one picture made
    of all images, and so is each of its previews.
    """

    prompt: str
    seeds: tuple[int, ...]
    sampling: SamplingSettings = SamplingSettings()
    negative_prompt: str = ""  # what guidance leads away from, in place of the empty prompt
    previews: tuple[int, ...] = ()  # token counts at which a preview is sent
    seamless: bool = False
    every_preview: bool = False  # whether no preview is skipped, although each delays the other images of the batch

    def has_preview_at(self, token_count: int) -> bool:
        """Whether a preview is due once an image has this many tokens."""
        return token_count in self.previews


def consecutive_seeds(first: int | None, count: int) -> tuple[int, ...]:
    """Return one seed for each image: `first`, `first` + 1, and so on. If `first` is None, a random seed is chosen.

    Raises InvalidRequest if there is no image, or a seed is not from 0 to 2**63 - 1.
    """
    if count < 1:
        raise InvalidRequest("num_images", "num_images must be at least 1")
    start = secrets.randbelow(2**32) if first is None else first
    if not 0 <= start <= MAX_SEED:
        raise InvalidRequest("seed", f"seed must be from 0 to {MAX_SEED}")
    if start + count - 1 > MAX_SEED:
        raise InvalidRequest("seed", f"seed must leave room for {count} images: image i has seed + i, {MAX_SEED} at most")
    return tuple(range(start, start + count))
