"""What a detokenizer's convolutions are given, measured so that numbers of 8 bits can span it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Pictures of 8 x 8 tokens that show what a convolution is given: each token alone, or in patches of this many tokens a side.
_PATCHES = (1, 1, 2, 4)
_SIDE = 8

Ranges = dict[Tensor, tuple[float, float]]


def convolution_ranges(detokenizer: nn.Module) -> Ranges:
    """Draw a few pictures, and return the least and the greatest number that each convolution is given, by its weight.

    Only large convolutions inside count. The first and the last do not: they are cheap, and nothing after the last hides what
    rounding costs it.
    """
    parts: Any = detokenizer
    with _Watching() as watching:
        for grid in _grids(parts.embedding.num_embeddings):
            parts.decoder(parts.post_quant_conv(parts.embedding(grid).permute(0, 3, 1, 2)))
    large = (
        part.weight
        for name, part in detokenizer.named_modules()
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3) and not name.endswith(("conv_in", "conv_out"))
    )
    return {weight: watching.ranges[weight] for weight in large}


class _Watching(TorchFunctionMode):
    """A watch on all convolutions. Hooks would miss some: min-dalle calls `forward` itself."""

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
    """Make pictures between noise and flat colours; the norms before the convolutions leave little difference to real ones."""
    random = np.random.default_rng(0)
    grids = []
    for patch in _PATCHES:
        coarse = random.integers(0, token_count, (_SIDE // patch,) * 2)
        grids.append(torch.from_numpy(np.kron(coarse, np.ones((patch, patch), dtype=np.int64)))[None])
    return grids
