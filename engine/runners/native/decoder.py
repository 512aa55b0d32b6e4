"""The decoder in C as a Python class: decode.c's structures and functions."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Sequence
from ctypes import POINTER, Structure, byref, c_double, c_float, c_int32, c_size_t, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.request import IMAGE_TOKEN_COUNT
from engine.runners.aligned import aligned_empty
from engine.runners.native.draws import DRAWN_TOKEN
from engine.runners.native.layout import BFLOATS, FLOATS, HALVES, INT7, INT8, PIECE
from engine.weights.config import ModelConfig

_EPSILON = 1e-5  # of torch.nn.LayerNorm
_NORMS = ("before_self", "after_self", "before_text", "after_text", "glu_in", "glu_middle")
_PRODUCTS = ("self_qkv", "self_out", "text_query", "text_out", "glu_gates", "glu_out")
# The parts of a step's time, in the order of team.h.
STEP_PARTS = (
    "norms, gates, rounding",
    "self-attention's products",
    "self-attention",
    "cross-attention's products",
    "cross-attention",
    "the GLU's products",
    "logits",
    "sampling",
)
_DRAW_SECONDS = 0.02  # that a call may take beyond its first step, so that images need not wait long for a place in the batch
_ROWS = ("tokens", "positions", "text_lengths", "image_cache", "text_cache", "logits")
# The type of cached keys and values, by the type of the logits' weights: float32, float16, or int8 with a scale for each.
CACHE_TYPES = {FLOATS: 0, HALVES: 0, BFLOATS: 1, INT8: 2, INT7: 2}


class _Product(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("kind", "inputs", "outputs", "groups")),
        *((name, c_void_p) for name in ("weights", "scales", "zeros")),
    ]


class _Norm(Structure):
    _fields_ = [("scale", c_void_p), ("bias", c_void_p)]


class _Table(Structure):
    _fields_ = [("are_halves", c_int32), ("numbers", c_void_p)]


class _Layer(Structure):
    _fields_ = [*((name, _Norm) for name in _NORMS), *((name, _Product) for name in _PRODUCTS)]


class _Model(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("width", "heads", "middle", "layer_count", "image_length", "cache_type")),
        ("epsilon", c_float),
        ("tokens", _Table),
        ("positions", _Table),
        ("embedding_norm", _Norm),
        ("final_norm", _Norm),
        ("head", _Product),
        ("layers", POINTER(_Layer)),
    ]


class _Rows(Structure):
    _fields_ = [("count", c_int32), *((name, c_void_p) for name in _ROWS)]


class _Drawing(Structure):
    _fields_ = [
        *(("count", c_int32), ("steps", c_int32), ("seconds", c_double)),
        *((name, c_void_p) for name in ("draws", "tokens", "positions", "drawn")),
        ("is_last", c_int32),
    ]


class NativeDecoder:
    """The decoder in C for one model, with its own threads. One caller at a time."""

    def __init__(self, library: ctypes.CDLL, config: ModelConfig, arrays: Sequence[NDArray[Any]], threads: int) -> None:
        """Start the threads; `arrays` is what `pack_decoder` returns. Raises MemoryError."""
        self._library = library
        self._declare()
        self._arrays = list(arrays)  # the structures point to them
        rest = iter(self._arrays)
        tokens, positions = _table(rest), _table(rest)
        embedding_norm, final_norm, self._head = _norm(rest), _norm(rest), _product(rest)
        self._layers = (_Layer * config.decoder_layer_count)()
        for layer in self._layers:
            for name in _NORMS:
                setattr(layer, name, _norm(rest))
            for name in _PRODUCTS:
                setattr(layer, name, _product(rest))
        self._model = _Model(
            width=config.embed_count,
            heads=config.attention_head_count,
            middle=config.glu_embed_count,
            layer_count=config.decoder_layer_count,
            image_length=IMAGE_TOKEN_COUNT,
            cache_type=CACHE_TYPES[self._head.kind],
            epsilon=_EPSILON,
            tokens=tokens,
            positions=positions,
            embedding_norm=embedding_norm,
            final_norm=final_norm,
            head=self._head,
            layers=ctypes.cast(self._layers, POINTER(_Layer)),
        )
        self.team = library.open_team(byref(self._model), threads)
        if not self.team:
            raise MemoryError("out of memory: can't start the decoder's threads")
        closing = weakref.finalize(self, _close, library, self.team, self._model, self._layers, self._arrays)
        closing.atexit = False  # at exit, the engine's thread may be in a step
        self._logits = np.empty((0, 0), np.float32)
        self.image_cache_size: int = library.cache_size(byref(self._model), IMAGE_TOKEN_COUNT)

    def pack_text(self, keys_values: NDArray[Any]) -> NDArray[Any]:
        """Pack a prompt's keys and values, float32 [2 layers, T, W], for `step`: uint8 [bytes]."""
        length, keys_values = keys_values.shape[1], np.ascontiguousarray(keys_values, np.float32)
        packed = aligned_empty((self._library.cache_size(byref(self._model), length),))
        packed[:] = 0
        self._library.pack_text(byref(self._model), _address(keys_values), length, _address(packed))
        return packed

    def step(
        self,
        tokens: NDArray[Any],
        positions: NDArray[Any],
        image_caches: NDArray[Any],
        text_caches: NDArray[Any],
        text_lengths: NDArray[Any],
    ) -> NDArray[Any]:
        """Decode one token for each row: float32 logits [R, V], valid until the next step. Raises MemoryError.

        Args:
            tokens: int32 [R], below the size of their table.
            positions: int32 [R], of the tokens.
            image_caches: uint64 [R], addresses of the rows' keys and values, `image_cache_size` bytes each, to which it adds.
            text_caches: uint64 [R], addresses of the prompts' keys and values, from `pack_text`.
            text_lengths: int32 [R], of the prompts in tokens.
        """
        rows, logits = self._rows(tokens, positions, text_lengths, image_caches, text_caches)
        if self._library.decode_step(self.team, byref(rows)):
            raise MemoryError(f"out of memory in a step of {len(tokens)} rows")
        return logits[:, : self._head.outputs]

    def draw(
        self,
        tokens: NDArray[Any],
        positions: NDArray[Any],
        image_caches: NDArray[Any],
        text_caches: NDArray[Any],
        text_lengths: NDArray[Any],
        draws: NDArray[Any],
        steps: int,
    ) -> NDArray[Any]:
        """Draw the next tokens of images, which have two rows each: DRAWN_TOKEN [S, images]. Raises MemoryError.

        S is at least one, at most `steps`, and fewer if these take long.

        Args:
            tokens: As for `step`, with the arrays that follow; the two rows of an image have the same token.
            draws: How each image is drawn, the rows of a `DrawTable`.
        """
        rows, _ = self._rows(tokens, positions, text_lengths, image_caches, text_caches)
        drawn = np.empty((steps, len(draws)), DRAWN_TOKEN)
        addresses = (_address(array) for array in (draws, tokens, positions, drawn))
        drawing = _Drawing(len(draws), steps, _DRAW_SECONDS, *addresses)
        if self._library.draw_tokens(self.team, byref(rows), byref(drawing)):
            raise MemoryError(f"out of memory in a step of {len(tokens)} rows")
        return drawn[: drawing.steps]

    def _rows(self, tokens: NDArray[Any], *others: NDArray[Any]) -> tuple[_Rows, NDArray[Any]]:
        """Return the structure of a step's rows, which must outlive it, and the array for their logits."""
        count = len(tokens)
        if len(self._logits) < count:  # kept, as a new array would be new pages of memory at each step
            self._logits = aligned_empty((count, -(-self._head.outputs // PIECE) * PIECE), np.float32)
        logits = self._logits[:count]
        return _Rows(count, *(_address(array) for array in (tokens, *others, logits))), logits

    def seconds_spent(self) -> dict[str, float]:
        """Return the seconds that all steps so far took, by part."""
        return dict(zip(STEP_PARTS, self._library.seconds_spent(self.team), strict=False))

    def seconds_to_read(self, memory: NDArray[Any]) -> float:
        """Return the seconds in which all threads read an array: the lower bound of a step that reads as much."""
        return float(self._library.time_reading(self.team, _address(memory), memory.nbytes))

    def _declare(self) -> None:
        library = self._library
        library.open_team.restype = c_void_p
        library.open_team.argtypes = [c_void_p, c_int32]
        library.decode_step.argtypes = [c_void_p, c_void_p]
        library.draw_tokens.argtypes = [c_void_p, c_void_p, c_void_p]
        library.cache_size.restype = c_size_t
        library.cache_size.argtypes = [c_void_p, c_int32]
        library.pack_text.restype = None
        library.pack_text.argtypes = [c_void_p, c_void_p, c_int32, c_void_p]
        library.seconds_spent.restype = POINTER(c_double)
        library.seconds_spent.argtypes = [c_void_p]
        library.time_reading.restype = c_double
        library.time_reading.argtypes = [c_void_p, c_void_p, c_size_t]
        library.close_team.restype = None
        library.close_team.argtypes = [c_void_p]


def _close(library: ctypes.CDLL, team: int, *_held: Any) -> None:
    """Stop a team's threads; until then, the arguments keep the memory that they read alive."""
    library.close_team(team)


def _norm(arrays: Iterator[NDArray[Any]]) -> _Norm:
    return _Norm(_address(next(arrays)), _address(next(arrays)))


def _table(arrays: Iterator[NDArray[Any]]) -> _Table:
    table = next(arrays)
    return _Table(table.dtype == np.float16, _address(table))


def _product(arrays: Iterator[NDArray[Any]]) -> _Product:
    kind, inputs, outputs, groups = next(arrays).tolist()
    return _Product(kind, inputs, outputs, groups, *(_address(next(arrays)) for _ in range(3)))


def _address(array: NDArray[Any]) -> int:
    """Return the address of an array, which must outlive its use."""
    return int(array.ctypes.data)
