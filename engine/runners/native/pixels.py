"""Pictures in float32: their coarse levels by OpenVINO, the fine ones by convolution.h."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_int32, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.runners.native.decoder import Decoder, address
from engine.runners.native.winograd import FINE_LEVELS
from engine.runners.openvino.pixels import Pixels

_BLOCKS = 3  # residual ones of a level
_GROUPS, _EPSILON = 32, 1e-5  # of torch.nn.GroupNorm as min-dalle uses it
_LARGEST = 16 * 16 * 128  # numbers of the finest map, for each token
_ROOMS = 3  # for what goes in, what lies beside it, and what comes out


class _Convolution(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("height", "width", "inputs", "outputs", "is_doubled")),
        *((name, c_void_p) for name in ("x", "scale", "shift", "weights", "bias", "added", "out", "sums")),
    ]


@dataclass(frozen=True, eq=False)
class _Layer:
    """Hold a convolution's arrays; it is normed where its scale isn't empty."""

    inputs: int
    outputs: int
    weights: NDArray[Any]
    bias: NDArray[Any]
    norm_scale: NDArray[Any]
    norm_bias: NDArray[Any]

    @property
    def is_normed(self) -> bool:
        return self.norm_scale.size > 0


@dataclass(frozen=True, eq=False)
class _Map:
    """Hold what a convolution made: numbers float32 [H, W, C], and their sums and squares' sums by pieces, [pieces, 2, C]."""

    numbers: NDArray[Any]
    sums: NDArray[Any]
    room: int = -1  # which part of the memory the numbers lie in


class FinePixels:
    """Draw pictures from tokens, on a decoder's threads."""

    def __init__(self, coarse: Pixels, decoder: Decoder, arrays: Sequence[NDArray[Any]]) -> None:
        """Take the graph of the coarse levels, and the fine ones as `pack_fine_levels` packs them."""
        self._coarse, self._decoder = coarse, decoder
        self._layers = [_Layer(*arrays[i].tolist(), *arrays[i + 1 : i + 5]) for i in range(0, len(arrays), 5)]
        self._rooms = np.empty((_ROOMS, 0), np.float32)

    def reset(self) -> None:
        """Free memory, and begin with requests of their own: one that has raised may be left half set."""
        self._rooms = np.empty((_ROOMS, 0), np.float32)
        self._coarse.reset()

    def draw(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]. Raises MemoryError."""
        largest = grids.shape[1] * grids.shape[2] * _LARGEST
        if self._rooms.shape[1] != largest:
            self._rooms = np.empty((_ROOMS, 0), np.float32)
            self._rooms = np.empty((_ROOMS, largest), np.float32)  # kept: new ones would be new pages of memory each time
        return np.stack([self._draw(grid) for grid in grids])

    def _draw(self, grid: NDArray[Any]) -> NDArray[Any]:
        layers = iter(self._layers)
        x = _Map(self._coarse.draw(grid[None])[0], np.empty(0))
        for _ in range(FINE_LEVELS):
            x = self._convolve(next(layers), x, doubles=True)
            for _ in range(_BLOCKS):
                layer, beside = next(layers), x
                if not layer.is_normed:
                    layer, beside = next(layers), self._convolve(layer, x)
                inner = self._convolve(layer, x, beside)
                x = self._convolve(next(layers), inner, beside, adds=True)
        pixels = self._convolve(next(layers), x).numbers[..., :3]
        return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)

    def _convolve(self, layer: _Layer, x: _Map, beside: _Map | None = None, *, doubles: bool = False, adds: bool = False) -> _Map:
        """Convolve what is in `x`, normalised if the layer says so; `beside` is left as it is, or added."""
        height, width = (side * (2 if doubles else 1) for side in x.numbers.shape[:2])
        room = next(room for room in range(_ROOMS) if room not in (x.room, beside.room if beside else x.room))
        out = self._rooms[room, : height * width * layer.outputs].reshape(height, width, layer.outputs)
        norm = _norm(layer, x) if layer.is_normed else None
        own = _Convolution(height, width, layer.inputs, layer.outputs, doubles)
        sums = np.empty((self._decoder.convolution_pieces(own), 2, layer.outputs), np.float32)
        own.x, own.weights, own.bias = (address(each) for each in (x.numbers, layer.weights, layer.bias))
        own.out, own.sums = address(out), address(sums)
        own.scale, own.shift = (None, None) if norm is None else (address(each) for each in norm)
        own.added = address(beside.numbers) if beside and adds else None
        self._decoder.convolve(own)
        return _Map(out, sums, room)


def _norm(layer: _Layer, x: _Map) -> NDArray[Any]:
    """Return what group norm multiplies each input by, and adds: float32 [2, C]."""
    means = x.sums.sum(0, dtype=np.float64).reshape(2, _GROUPS, -1).mean(2) / (x.numbers.shape[0] * x.numbers.shape[1])
    variance = np.maximum(means[1] - means[0] ** 2, 0)
    inverse = 1 / np.sqrt(variance + _EPSILON)
    mean, inverse = (np.repeat(each, layer.inputs // _GROUPS) for each in (means[0], inverse))
    scale = layer.norm_scale * inverse
    return np.stack([scale, layer.norm_bias - mean * scale]).astype(np.float32)
