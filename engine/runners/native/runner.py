"""The runner for CPUs with AVX-512: OpenVINO encodes and detokenizes, decode.c decodes.

Every image has a block of memory of its own for its keys and values, so images join and leave the batch without a copy: only the
addresses that a step is given change. All images of a prompt read the same keys and values of it, and all requests the same ones
of the empty prompt.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engine.runners.native import layout
from engine.runners.native.decoder import Decoder
from engine.runners.native.layout import pack_decoder
from engine.runners.openvino.compiled import CompiledModel, Form
from engine.runners.openvino.graphs import prompt_graph
from engine.runners.rounding import WeightKind
from engine.runners.runner import KEPT_PROMPTS
from engine.upstream import DalleBartDecoder
from engine.weights.config import ModelConfig


def _pack(decoder: DalleBartDecoder, config: ModelConfig, kind: WeightKind) -> list[NDArray[Any]]:
    return pack_decoder(decoder, config.logit_count, kind)


NATIVE = Form("native", {"encoding": prompt_graph}, _pack, (layout,))


@dataclass(frozen=True, eq=False)
class Prompt:
    """Hold an encoded prompt: its keys and values as a step reads them, and how many tokens it has."""

    kept: NDArray[Any]
    length: int


class NativeRunner:
    """Run a compiled model of the form `NATIVE`: a `Runner`."""

    def __init__(self, model: CompiledModel, library: ctypes.CDLL, threads: int) -> None:
        self._model = model
        self.decoder = Decoder(library, model.config, model.constants["decoding"], threads)
        self.reset()

    def reset(self) -> None:
        """Free every slot, and the memory for them; forget every prompt but the empty one."""
        # A request of its own: one that has raised may be left half set.
        self._encoding = self._model.parts["encoding"].create_infer_request()
        self._model.pixels.reset()
        self._prompts: OrderedDict[tuple[int, ...], Prompt] = OrderedDict()
        self._free: list[NDArray[Any]] = []
        self._slots: list[tuple[NDArray[Any], Prompt]] = []
        # Every request's unconditional prompt: start and end token only.
        self._nothing = self._encode(self._model.empty_prompt)

    def encode(self, text_tokens: Sequence[int]) -> Prompt:
        """Encode a prompt, unless it is known from before; the least lately used is forgotten, past `KEPT_PROMPTS`."""
        tokens = tuple(text_tokens)
        if tokens not in self._prompts:
            self._prompts[tokens] = self._encode(tokens)
        self._prompts.move_to_end(tokens)
        while len(self._prompts) > KEPT_PROMPTS:
            self._prompts.popitem(last=False)
        return self._prompts[tokens]

    def _encode(self, tokens: tuple[int, ...]) -> Prompt:
        self._encoding.set_tensor("tokens", ov.Tensor(np.array(tokens, dtype=np.int32)))
        self._encoding.infer()
        return Prompt(self.decoder.keep_text(self._encoding.get_tensor("keys_values").data), len(tokens))

    def admit(self, prompts: Sequence[Prompt]) -> None:
        """Append a slot for each prompt given."""
        for prompt in prompts:
            own = self._free.pop() if self._free else np.empty((2, self.decoder.own_size), np.uint8)
            self._slots.append((own, prompt))
        self._note_rows()

    def rearrange(self, order: Sequence[int]) -> None:
        """Make slot `order[i]` the new slot i."""
        kept = set(order)
        self._free += [own for index, (own, _) in enumerate(self._slots) if index not in kept]
        self._slots = [self._slots[index] for index in order]
        self._note_rows()

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Decode one token an image: float32 logits [N, 2, V], valid until the next step."""
        rows = np.repeat(np.array([tokens, positions], dtype=np.int32), 2, axis=1)
        return self.decoder.step(rows[0], rows[1], self._own, self._text, self._text_lengths).reshape(len(tokens), 2, -1)

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""
        return self._model.pixels.draw(grids)

    def _note_rows(self) -> None:
        """Note where each row's keys and values lie: an image's two rows are the empty prompt's and its own."""
        prompts = [each for _, prompt in self._slots for each in (self._nothing, prompt)]
        self._own = np.array([row.ctypes.data for own, _ in self._slots for row in own], dtype=np.uint64)
        self._text = np.array([prompt.kept.ctypes.data for prompt in prompts], dtype=np.uint64)
        self._text_lengths = np.array([prompt.length for prompt in prompts], dtype=np.int32)
