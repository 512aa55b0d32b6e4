"""The detokenizer on the device: in 16 bits where that proves good enough, else in float32."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.picture import GRID
from engine.runners.cuda.half_detokenizer import SIDE_BY_SIDE, HalfDetokenizer
from engine.upstream.modules import VQGanDetokenizer
from engine.weights.detokenizer import pixels_of

LEAST_SIGNAL_TO_NOISE = 40.0  # decibels, beside float32; int8 on CPUs has to reach 30
_PROOF_GRIDS = SIDE_BY_SIDE + 1  # some side by side, and one alone

_log = logging.getLogger(__name__)


def signal_to_noise(pixels: Tensor, exact: Tensor) -> float:
    """Return the peak signal-to-noise ratio of pixels uint8 beside the exact ones, in decibels."""
    error = float((pixels.float() - exact.float()).square().mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


class CudaDetokenizer:
    """A detokenizer of min-dalle's in float32, with a copy in 16 bits for pictures of 16 x 16 tokens; Tiny's has none."""

    def __init__(self, detokenizer: nn.Module, vocab_count: int, device: torch.device) -> None:
        """`vocab_count` is the number of image tokens."""
        exact: nn.Module = detokenizer.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._exact, self._device = exact, device
        self._half = self._proven(vocab_count) if isinstance(detokenizer, VQGanDetokenizer) else None

    def _proven(self, vocab_count: int) -> HalfDetokenizer | None:
        """Return the copy in 16 bits if its pictures of random tokens are close to those in float32; log it if they are not."""
        try:
            half = HalfDetokenizer(self._exact, GRID, self._device)
            generator = torch.Generator().manual_seed(0)
            grids = torch.randint(vocab_count, (_PROOF_GRIDS, GRID, GRID), generator=generator).to(self._device)
            pixels, are_finite = half.pixels(grids)
            decibels = signal_to_noise(pixels, self._exactly(grids)) if bool(are_finite.all()) else -math.inf
        except Exception:
            _log.warning("detokenizing in float32, as 16 bits fail on this GPU", exc_info=True)
            return None
        if decibels < LEAST_SIGNAL_TO_NOISE:
            _log.warning("detokenizing in float32, as 16 bits come only within %.0f dB of it on this GPU", decibels)
            return None
        return half

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""
        on_device = torch.from_numpy(grids).to(self._device)
        if self._half is None or grids.shape[1:] != (GRID, GRID):
            return self._exactly(on_device).cpu().numpy()
        pixels, are_finite = self._half.pixels(on_device)
        overflowed = (~are_finite).nonzero().flatten().tolist()  # float16 ends at 65504
        if overflowed:
            pixels[overflowed] = self._exactly(on_device[overflowed])
        return pixels.cpu().numpy()

    def _exactly(self, grids: Tensor) -> Tensor:
        return torch.cat([pixels_of(self._exact, grid[None]) for grid in grids])
