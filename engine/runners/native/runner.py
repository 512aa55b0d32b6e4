"""The runner with the decoder in C: OpenVINO or torch encodes, decode.c decodes; either detokenizes.

Each image has its own block of memory for keys and values, so images join and leave the batch without a copy: only the addresses
passed to a step change. The images of a prompt share its keys and values, and all images share those of the empty prompt.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.runners.aligned import HUGE, aligned_empty
from engine.runners.native.decoder import NativeDecoder
from engine.runners.native.detokenizer import NativeDetokenizer
from engine.runners.native.draws import DrawTable, as_drawn
from engine.runners.native.packed import PackedDetokenizer
from engine.runners.runner import PROMPT_CACHE_SIZE, Draw, Drawn
from engine.weights.config import ModelConfig


class Ends(Protocol):
    """What comes before and behind the decoder, and the decoder's weights as `pack_decoder` packs them."""

    config: ModelConfig
    empty_prompt: tuple[int, ...]
    decoder: Sequence[NDArray[Any]]
    detokenizer: PackedDetokenizer | None  # for the C code; None if `detokenize` is to be called

    def encode(self, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """Encode a prompt: the keys and values of all layers, [2 layers, T, W], valid until the next call."""

    def detokenize(self, grids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Turn token grids [N, H, W] into pixels [N, 16 H, 16 W, 3]."""

    def reset(self) -> None:
        """Begin anew, even after another method has raised."""


@dataclass(frozen=True, eq=False)
class NativePrompt:
    """An encoded prompt: its packed keys and values, and its length in tokens."""

    keys_values: NDArray[Any]
    length: int


PromptPair = tuple[NativePrompt, NativePrompt]  # negative and positive: an image's two rows


class NativeRunner:
    """A `LogitsRunner` on the decoder in C."""

    pictures_at_once = 1

    def __init__(self, ends: Ends, library: ctypes.CDLL, threads: int) -> None:
        self._ends = ends
        self.decoder = NativeDecoder(library, ends.config, ends.decoder, threads)
        packed = ends.detokenizer
        self._detokenize = NativeDetokenizer(library, self.decoder, packed).detokenize if packed else ends.detokenize
        self.reset()

    def reset(self) -> None:
        """Free all slots, their memory, and all prompts but the empty one."""
        self._ends.reset()
        self._prompts: OrderedDict[tuple[int, ...], NativePrompt] = OrderedDict()
        self._free: list[NDArray[Any]] = []
        self._slots: list[tuple[NDArray[Any], PromptPair]] = []
        self._table = DrawTable(())
        # The unconditional row of images without a negative prompt: only the start and the end token.
        self._empty_prompt = self._encode(self._ends.empty_prompt)

    def encode(self, text_tokens: Sequence[int], negative_tokens: Sequence[int] | None = None) -> PromptPair:
        """Encode a prompt and its negative prompt, those that are not among the last `PROMPT_CACHE_SIZE` ones."""
        negative = self._empty_prompt if negative_tokens is None else self._cached(tuple(negative_tokens))
        return negative, self._cached(tuple(text_tokens))

    def _cached(self, tokens: tuple[int, ...]) -> NativePrompt:
        if tokens not in self._prompts:
            self._prompts[tokens] = self._encode(tokens)
        self._prompts.move_to_end(tokens)
        while len(self._prompts) > PROMPT_CACHE_SIZE:
            self._prompts.popitem(last=False)
        return self._prompts[tokens]

    def _encode(self, tokens: tuple[int, ...]) -> NativePrompt:
        return NativePrompt(self.decoder.pack_text(self._ends.encode(tokens)), len(tokens))

    def admit(self, prompts: Sequence[PromptPair]) -> None:
        """Append a slot for each prompt."""
        for prompt in prompts:
            cache = self._free.pop() if self._free else aligned_empty((2, self.decoder.image_cache_size), at_least=HUGE)
            self._slots.append((cache, prompt))
        self._update_rows()

    def rearrange(self, order: Sequence[int]) -> None:
        """Move slot `order[i]` to slot i."""
        kept = set(order)
        self._free += [cache for index, (cache, _) in enumerate(self._slots) if index not in kept]
        self._slots = [self._slots[index] for index in order]
        self._update_rows()

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Decode one token for each image: float32 logits [N, 2, V], valid until the next step."""
        rows = np.repeat(np.array([tokens, positions], dtype=np.int32), 2, axis=1)
        logits = self.decoder.step(rows[0], rows[1], self._image_caches, self._text_caches, self._text_lengths)
        return logits.reshape(len(tokens), 2, -1)

    def draw(self, tokens: Sequence[int], positions: Sequence[int], draws: Sequence[Draw], steps: int) -> Drawn:
        """Draw the next tokens of each image."""
        if draws is not self._table.draws:
            self._table = DrawTable(draws)
        rows = np.repeat(np.array([tokens, positions], dtype=np.int32), 2, axis=1)
        caches = self._image_caches, self._text_caches, self._text_lengths
        return as_drawn(self.decoder.draw(rows[0], rows[1], *caches, self._table.rows, steps))

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""
        return self._detokenize(grids)

    def _update_rows(self) -> None:
        """Collect the addresses of each row's keys and values. An image has rows for its negative prompt and its prompt."""
        prompts = [prompt for _, pair in self._slots for prompt in pair]
        self._image_caches = np.array([row.ctypes.data for cache, _ in self._slots for row in cache], dtype=np.uint64)
        self._text_caches = np.array([prompt.keys_values.ctypes.data for prompt in prompts], dtype=np.uint64)
        self._text_lengths = np.array([prompt.length for prompt in prompts], dtype=np.int32)
