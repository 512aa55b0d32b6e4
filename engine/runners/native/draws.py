"""How images are drawn, as sample.h's structures, and the tokens that come back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.runners.runner import Draw, Drawn

_DRAW = np.dtype(
    [
        *(("uniforms", np.uintp), ("negative_share", np.float32), ("positive_share", np.float32)),
        *(("temperature", np.float32), ("top_k", np.int32), ("needs_likelihood", np.int32)),
    ],
    align=True,
)
DRAWN_TOKEN = np.dtype([("likelihood", np.float64), ("token", np.int32), ("is_finite", np.int32)], align=True)
_MOST = np.iinfo(np.int32).max


class DrawTable:
    """`Draw`s as an array of sample.h's structures, with the numbers that they point to."""

    def __init__(self, draws: Sequence[Draw]) -> None:
        self.draws = draws
        self._uniforms = np.array([draw.uniforms for draw in draws], np.float64)
        self.rows = np.empty(len(draws), _DRAW)
        for row, draw in enumerate(draws):
            sampling, uniforms = draw.sampling, self._uniforms[row].ctypes.data
            factor, top_k = sampling.supercondition_factor, min(sampling.top_k, _MOST)
            self.rows[row] = uniforms, 1 - factor, factor, sampling.temperature, top_k, draw.needs_likelihoods


def as_drawn(tokens: np.ndarray[tuple[int, int], np.dtype[np.void]]) -> Drawn:
    """Return the tokens that C drew, DRAWN_TOKEN [steps, images]."""
    not_finite = np.flatnonzero((tokens["is_finite"] == 0).any(0)).tolist()
    return Drawn(tokens["token"].T.astype(np.int64), tokens["likelihood"].T, not_finite)
