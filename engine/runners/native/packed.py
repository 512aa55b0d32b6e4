"""A packed detokenizer: the stages that detokenize.h runs, and their arrays in a flat list, as they are kept on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONVOLVE, ATTEND = range(2)
NOTHING = -1


@dataclass(frozen=True)
class PackedConvolution:
    """A convolution, or one for each phase, as `Convolution` of picture.h."""

    sizes: tuple[int, int, int, int, int, int]  # kind, inputs, outputs, side, stride, phases
    weights: NDArray[Any]
    scales: NDArray[Any]
    bias: NDArray[Any]
    sums: NDArray[Any]


@dataclass(frozen=True)
class PackedStage:
    """A step from features to features, as `Stage` of picture.h."""

    kind: int
    source: int
    target: int
    added: int = NOTHING
    norm: tuple[NDArray[Any], NDArray[Any]] | None = None
    is_swished: bool = False
    convolution: PackedConvolution | None = None


@dataclass(frozen=True)
class PackedDetokenizer:
    """The embedded tokens, float32 [tokens, channels], and the stages."""

    table: NDArray[Any]
    epsilon: float
    stages: Sequence[PackedStage]

    def as_arrays(self) -> list[NDArray[Any]]:
        """Return everything as a list of arrays."""
        arrays = [self.table, np.array(self.epsilon)]
        for stage in self.stages:
            norm, convolution = stage.norm or (), stage.convolution
            sizes = () if convolution is None else convolution.sizes
            flags = stage.kind, stage.source, stage.target, stage.added, stage.is_swished, bool(norm)
            arrays += [np.array([*flags, *sizes], np.int32), *norm]
            if convolution is not None:
                arrays += [convolution.weights, convolution.scales, convolution.bias, convolution.sums]
        return arrays


def packed_from(arrays: Sequence[NDArray[Any]]) -> PackedDetokenizer:
    """Return the detokenizer that `as_arrays` turned into arrays; it reads them in place."""
    rest = iter(arrays)
    table, epsilon = next(rest), float(next(rest))
    return PackedDetokenizer(table, epsilon, list(_stages(rest)))


def _stages(rest: Iterator[NDArray[Any]]) -> Iterator[PackedStage]:
    for header in rest:
        kind, source, target, added, is_swished, is_normalised, *sizes = header.tolist()
        norm = (next(rest), next(rest)) if is_normalised else None
        convolution = PackedConvolution((*sizes,), *(next(rest) for _ in range(4))) if sizes else None
        yield PackedStage(kind, source, target, added, norm, bool(is_swished), convolution)
