"""Device memory of the images in the batch: a fixed block for each slot, which kernels find by the slot's number."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.request import IMAGE_TOKEN_COUNT
from engine.runners.runner import Draw
from engine.weights.config import ModelConfig

# What the host reads of a slot, as bytes: tokens int32 and likelihoods float64, 256 of each, and a flag int32.
_TOKENS, _LIKELIHOODS = 4 * IMAGE_TOKEN_COUNT, 8 * IMAGE_TOKEN_COUNT


class Slots:
    """Caches, sampling settings and drawn tokens of `count` images, and of one slot more that is `idle`.

    The idle slot fills the places of a batch that no image has. A slot has two rows in the caches, unconditional and conditional.
    """

    def __init__(self, config: ModelConfig, count: int, device: torch.device, dtype: torch.dtype) -> None:
        self._config, self._device, self._dtype = config, device, dtype
        self.count = self.idle = count
        heads, layers = config.attention_head_count, config.decoder_layer_count
        width, rows = config.embed_count // heads, 2 * (count + 1)

        def zeros(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
            return torch.zeros(shape, device=device, dtype=dtype)

        # A layer's keys and values are tensors of their own, so that growing needs little memory for a while.
        self.keys = [zeros(rows, heads, IMAGE_TOKEN_COUNT, width, dtype=dtype) for _ in range(layers)]
        self.values = [zeros(rows, heads, IMAGE_TOKEN_COUNT, width, dtype=dtype) for _ in range(layers)]
        self.text = zeros(layers, 2, rows, heads, config.text_token_count, width, dtype=dtype)  # 2: keys, values
        self.text_lengths = torch.ones(rows, device=device, dtype=torch.int32)
        self.tokens, self.positions = zeros(count + 1), zeros(count + 1)  # the next inputs
        self.uniforms = zeros(count + 1, IMAGE_TOKEN_COUNT, dtype=torch.float64)
        self.factors, self.temperatures = (torch.ones(count + 1, device=device) for _ in range(2))
        self.top_ks = torch.ones(count + 1, device=device, dtype=torch.int32)
        self.asks_likelihood = zeros(count + 1)
        self.drawn = zeros(count + 1, IMAGE_TOKEN_COUNT)
        self.likelihoods = zeros(count + 1, IMAGE_TOKEN_COUNT, dtype=torch.float64)
        self.not_finite = zeros(count + 1)

    def tensors(self) -> list[Tensor]:
        """Return all memory of the slots."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)] + self.keys + self.values

    def begin(self, slot: int, negative: tuple[Tensor, int], prompt: tuple[Tensor, int], draw: Draw) -> None:
        """Put an image into a slot: its prompts' keys and values [layers, 2, heads, length, head width], and lengths."""
        for row, (keys_values, length) in enumerate((negative, prompt), 2 * slot):
            self.text[:, :, row, :, :length] = keys_values
            self.text_lengths[row] = length
        self.uniforms[slot] = torch.tensor(draw.uniforms, dtype=torch.float64)
        self.factors[slot] = draw.sampling.supercondition_factor
        self.temperatures[slot] = draw.sampling.temperature
        self.top_ks[slot] = draw.sampling.top_k
        self.asks_likelihood[slot] = int(draw.needs_likelihoods)
        self.tokens[slot] = self._config.decoder_start_token_id
        self.positions[slot] = 0
        self.likelihoods[slot] = torch.nan
        self.not_finite[slot] = 0

    def grow(self, count: int) -> None:
        """Make room for `count` slots, layer by layer, so that little is in memory twice. Old graphs are invalid."""
        for name, value in list(vars(self).items()):
            if isinstance(value, Tensor):
                setattr(self, name, self._grown(value, count, axis=2 if name == "text" else 0))
        for caches in (self.keys, self.values):
            for layer in range(len(caches)):
                caches[layer] = self._grown(caches[layer], count)
        for settings in (self.factors, self.temperatures, self.top_ks):
            settings[count] = 1
        self.text_lengths[2 * count :] = 1
        self.count = self.idle = count

    def _grown(self, old: Tensor, count: int, axis: int = 0) -> Tensor:
        """Copy a tensor without its idle slot to one of more slots, along an axis of slots or of rows."""
        per_slot = old.shape[axis] // (self.count + 1)
        shape = list(old.shape)
        shape[axis] = per_slot * (count + 1)
        new = torch.zeros(shape, device=old.device, dtype=old.dtype)
        used = per_slot * self.count
        new.narrow(axis, 0, used).copy_(old.narrow(axis, 0, used))
        return new

    def read(self, slots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what was drawn, on the host and in one copy: tokens and likelihoods [N, 256], and whether not finite [N]."""
        ids = slots.long()
        parts = self.drawn[ids], self.likelihoods[ids], self.not_finite[ids, None]
        whole = torch.cat([part.view(torch.uint8) for part in parts], 1).cpu()
        tokens, likelihoods, flags = (
            part.clone(memory_format=torch.contiguous_format) for part in whole.split([_TOKENS, _LIKELIHOODS, 4], 1)
        )
        return tokens.view(torch.int32), likelihoods.view(torch.float64), flags.view(torch.int32)[:, 0] != 0
