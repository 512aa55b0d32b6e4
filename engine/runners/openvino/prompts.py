"""Prompts that are encoded: their pages, kept while images are drawn from them and, the latest ones, for whoever asks again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from engine.runners.openvino.pages import Pages
from engine.runners.runner import KEPT_PROMPTS


@dataclass
class Prompt:
    """Hold one encoded prompt: where its pages are, how many tokens, the last one's keys and values [layers, 2, W]."""

    lease: int
    length: int
    last: NDArray[Any]
    images: int = 0  # rows that read its pages


class Prompts:
    """Keep encoded prompts by their tokens; those without images go, the least lately used first, past `KEPT_PROMPTS`."""

    def __init__(self, pages: Pages, encode: Callable[[tuple[int, ...], int], NDArray[Any]]) -> None:
        """`encode` writes a prompt's keys and values to the pages of a lease, and returns the last token's."""
        self._pages = pages
        self._encode = encode
        self._known: OrderedDict[tuple[int, ...], Prompt] = OrderedDict()

    def find(self, tokens: tuple[int, ...]) -> Prompt:
        """Return an encoded prompt; encode it where it isn't yet, or no more."""
        if tokens not in self._known:
            self._forget()
            lease = self._pages.lease()
            try:
                self._known[tokens] = Prompt(lease, len(tokens), self._encode(tokens, lease))
            except BaseException:
                self._pages.give_back(lease)
                raise
        self._known.move_to_end(tokens)
        return self._known[tokens]

    def _forget(self) -> None:
        idle = [tokens for tokens, prompt in self._known.items() if not prompt.images]
        for tokens in idle[: max(0, len(idle) - KEPT_PROMPTS + 1)]:
            self._pages.give_back(self._known.pop(tokens).lease)
