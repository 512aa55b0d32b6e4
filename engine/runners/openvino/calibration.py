"""Calibration for int8: the ranges of the inputs of a detokenizer's convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Calibration pictures have 8 x 8 tokens, in patches of this many equal tokens a side.
_PATCHES = (1, 1, 2, 4)
_SIDE = 8

Ranges = dict[Tensor, tuple[float, float]]


def convolution_ranges(detokenizer: nn.Module) -> Ranges:
    """Detokenize a few pictures, and return the range of each convolution's inputs, by its weight.

    Only the 3 x 3 convolutions count, without the first and the last: these two are cheap, and no later layer hides the last
    one's rounding errors.
    """
    parts: Any = detokenizer
    with _RangeRecorder() as recorder:
        for grid in _grids(parts.embedding.num_embeddings):
            parts.decoder(parts.post_quant_conv(parts.embedding(grid).permute(0, 3, 1, 2)))
    large = (
        part.weight
        for name, part in detokenizer.named_modules()
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3) and not name.endswith(("conv_in", "conv_out"))
    )
    return {weight: recorder.ranges[weight] for weight in large}


class _RangeRecorder(TorchFunctionMode):
    """A recorder of the inputs of all convolutions. Hooks would miss some, as min-dalle calls `forward` directly."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges: Ranges = {}

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is nn.functional.conv2d:
            x, weight = args[:2]
            low, high = self.ranges.get(weight, (0.0, 0.0))
            self.ranges[weight] = min(low, float(x.min())), max(high, float(x.max()))
        return function(*args, **(kwargs or {}))


def _grids(token_count: int) -> list[Tensor]:
    """Make token grids between noise and flat colours; after the norms, their ranges are close to those of real pictures."""
    random = np.random.default_rng(0)
    grids = []
    for patch in _PATCHES:
        coarse = random.integers(0, token_count, (_SIDE // patch,) * 2)
        grids.append(torch.from_numpy(np.kron(coarse, np.ones((patch, patch), dtype=np.int64)))[None])
    return grids
