"""Encoded prompts: kept while images are drawn from them, and the latest ones for later requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from engine.runners.openvino.pages import PagePool
from engine.runners.runner import PROMPT_CACHE_SIZE


@dataclass
class PagedPrompt:
    """An encoded prompt: the lease of its pages, its length in tokens, and the last token's keys and values [layers, 2, W]."""

    lease: int
    length: int
    last: NDArray[Any]
    images: int = 0  # that are being drawn from it


class PromptCache:
    """Encoded prompts by their tokens. Of those without images, the `PROMPT_CACHE_SIZE` most recently used stay."""

    def __init__(self, pages: PagePool, encode: Callable[[tuple[int, ...], int], NDArray[Any]]) -> None:
        """`encode` writes a prompt's keys and values to the pages of a lease, and returns those of the last token."""
        self._pages = pages
        self._encode = encode
        self._known: OrderedDict[tuple[int, ...], PagedPrompt] = OrderedDict()

    def find(self, tokens: tuple[int, ...]) -> PagedPrompt:
        """Return an encoded prompt; encode it if it is not in the cache."""
        if tokens not in self._known:
            self._evict()
            lease = self._pages.lease()
            try:
                self._known[tokens] = PagedPrompt(lease, len(tokens), self._encode(tokens, lease))
            except BaseException:
                self._pages.release(lease)
                raise
        self._known.move_to_end(tokens)
        return self._known[tokens]

    def _evict(self) -> None:
        idle = [tokens for tokens, prompt in self._known.items() if not prompt.images]
        for tokens in idle[: max(0, len(idle) - PROMPT_CACHE_SIZE + 1)]:
            self._pages.release(self._known.pop(tokens).lease)
