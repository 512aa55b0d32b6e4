"""What is asked of the engine, and what it tells while it draws."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_TOKEN_COUNT = 256  # 16 x 16; there is no end token
PREVIEW_EVERY = 32  # tokens, as in min-dalle
PREVIEWS = tuple(range(PREVIEW_EVERY, IMAGE_TOKEN_COUNT, PREVIEW_EVERY))


@dataclass(frozen=True)
class SamplingSettings:
    """Hold how a token is drawn from logits."""

    temperature: float = 1.0
    top_k: int = 256
    supercondition_factor: float = 16.0  # guidance


@dataclass(frozen=True)
class ImageRequest:
    """Hold one prompt and the seeds of the images to draw from it.

    Image i has seed `seeds[i]`: its own, so that it is the same image alone or in any batch.
    """

    prompt: str
    seeds: tuple[int, ...]
    settings: SamplingSettings = SamplingSettings()
    previews: tuple[int, ...] = ()  # the numbers of tokens at which an image is shown
    progress: bool = True  # tell how many tokens are drawn: each time wakes the caller's thread
    seamless: bool = False  # detokenize all images as one picture without seams
