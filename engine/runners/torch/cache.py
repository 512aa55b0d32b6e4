"""The key-value cache of the running batch, in fixed blocks. An image has a slot of two rows, unconditional and conditional."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.request import IMAGE_TOKEN_COUNT
from engine.weights.config import ModelConfig


class KeyValueCache:
    """The keys and values of all layers, [layers, 2 (keys, values), slots, 2, heads, length, head width].

    Each image has exactly 256 tokens, so a slot is a fixed block, without paging or eviction. The slots in use are always the
    first ones, so that a step takes views and copies nothing.
    """

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._config, self._device, self._dtype = config, device, dtype
        self.count = 0
        self._lengths: list[int] = []  # of the prompts
        self._image, self._text, self._text_mask = self._blocks(0)

    def _blocks(self, capacity: int) -> tuple[Tensor, Tensor, Tensor]:
        config = self._config
        heads = config.attention_head_count

        def blocks(length: int) -> Tensor:
            width = config.embed_count // heads
            shape = (config.decoder_layer_count, 2, capacity, 2, heads, length, width)
            return torch.zeros(shape, device=self._device, dtype=self._dtype)

        mask = torch.zeros((capacity, 2, 1, 1, config.text_token_count), device=self._device, dtype=torch.bool)
        return blocks(IMAGE_TOKEN_COUNT), blocks(config.text_token_count), mask

    def _reserve(self, capacity: int) -> None:
        """Make room for at least `capacity` slots; the room at least doubles."""
        if capacity > self._text_mask.shape[0]:
            image, text, mask = self._blocks(max(capacity, 2 * self._text_mask.shape[0]))
            image[:, :, : self.count] = self._image[:, :, : self.count]
            text[:, :, : self.count] = self._text[:, :, : self.count]
            mask[: self.count] = self._text_mask[: self.count]
            self._image, self._text, self._text_mask = image, text, mask

    def append(self, text: Tensor, mask: Tensor) -> None:
        """Add a slot: text [layers, 2, 2, heads, text length, head width], mask bool [2, text length]."""
        self._reserve(self.count + 1)
        self._text[:, :, self.count] = text
        self._text_mask[self.count, :, 0, 0] = mask
        self._lengths.append(int(mask.sum(-1).max()))
        self.count += 1

    def rearrange(self, order: Sequence[int]) -> None:
        """Move slot `order[i]` to slot i."""
        for new, old in enumerate(order):
            if new != old:
                self._image[:, :, new] = self._image[:, :, old]
                self._text[:, :, new] = self._text[:, :, old]
                self._text_mask[new] = self._text_mask[old]
        self._lengths = [self._lengths[old] for old in order]
        self.count = len(order)

    @property
    def text_lengths(self) -> list[int]:
        """The prompts' lengths in tokens."""
        return self._lengths

    def image(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values of image tokens: writable views [rows, heads, 256, head width]."""
        keys, values = self._image[layer, :, : self.count].flatten(1, 2)
        return keys, values

    def text(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values of prompts: views [rows, heads, text length, head width]."""
        keys, values = self._text[layer, :, : self.count].flatten(1, 2)
        return keys, values

    @property
    def text_mask(self) -> Tensor:
        """Whether a text token exists: bool [rows, 1, 1, text length]."""
        return self._text_mask[: self.count].flatten(0, 1)
