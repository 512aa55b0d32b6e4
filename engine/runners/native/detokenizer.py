"""The detokenizer in C as a Python class: picture.h's structures and detokenize.h's functions."""

from __future__ import annotations

import ctypes
import weakref
from ctypes import POINTER, Structure, byref, c_float, c_int32, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.runners.native.decoder import NativeDecoder
from engine.runners.native.packed import PackedDetokenizer, PackedStage

_PIXELS = 16  # on a token's side


class _Convolution(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("kind", "inputs", "outputs", "side", "stride", "phases")),
        *((name, c_void_p) for name in ("weights", "scales", "bias", "sums")),
    ]


class _Stage(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("kind", "source", "target", "added", "is_normalised", "is_swished")),
        *((name, c_void_p) for name in ("norm_scale", "norm_bias")),
        ("convolution", _Convolution),
    ]


class _Detokenizer(Structure):
    _fields_ = [("stage_count", c_int32), ("epsilon", c_float), ("table", c_void_p), ("stages", POINTER(_Stage))]


class NativeDetokenizer:
    """The detokenizer in C for one model, on a decoder's threads. One caller at a time, of either."""

    def __init__(self, library: ctypes.CDLL, decoder: NativeDecoder, packed: PackedDetokenizer) -> None:
        """Read weights in place. Raises MemoryError."""
        self._library, self._decoder, self._packed = library, decoder, packed
        library.open_picture.restype = c_void_p
        library.open_picture.argtypes = [c_void_p]
        library.detokenize.argtypes = [c_void_p, c_void_p, c_void_p, c_int32, c_int32, c_void_p]
        library.close_picture.restype = None
        library.close_picture.argtypes = [c_void_p]
        self._stages = (_Stage * len(packed.stages))(*(stage_structure(each) for each in packed.stages))
        self._detokenizer = _Detokenizer(
            len(packed.stages), packed.epsilon, packed.table.ctypes.data, ctypes.cast(self._stages, POINTER(_Stage))
        )
        self._picture = library.open_picture(byref(self._detokenizer))
        if not self._picture:
            raise MemoryError("out of memory: can't open the detokenizer")
        closing = weakref.finalize(self, library.close_picture, self._picture)
        closing.atexit = False  # at exit, the engine's thread may be in it

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]. Raises IndexError, MemoryError."""
        grids = np.ascontiguousarray(grids, np.int64)
        if grids.size and not 0 <= grids.min() <= grids.max() < len(self._packed.table):
            raise IndexError(f"a token is not among the detokenizer's {len(self._packed.table)}")
        count, rows, columns = grids.shape
        pixels = np.empty((count, _PIXELS * rows, _PIXELS * columns, 3), np.uint8)
        for grid, own in zip(grids, pixels, strict=True):
            failed = self._library.detokenize(self._decoder.team, self._picture, grid.ctypes.data, rows, columns, own.ctypes.data)
            if failed:
                raise MemoryError(f"out of memory for a picture of {rows} x {columns} tokens")
        return pixels


def stage_structure(packed: PackedStage) -> _Stage:
    """Return a stage as C knows it, which reads the arrays in place."""
    stage = _Stage(packed.kind, packed.source, packed.target, packed.added, packed.norm is not None, packed.is_swished)
    if packed.norm is not None:
        stage.norm_scale, stage.norm_bias = (each.ctypes.data for each in packed.norm)
    if packed.convolution is not None:
        arrays = packed.convolution.weights, packed.convolution.scales, packed.convolution.bias, packed.convolution.sums
        stage.convolution = _Convolution(*packed.convolution.sizes, *(each.ctypes.data for each in arrays))
    return stage
