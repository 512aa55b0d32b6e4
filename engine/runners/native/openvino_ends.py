"""OpenVINO before the decoder in C, where it encodes prompts, and with AVX-512 behind it, where it detokenizes pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engine.runners.native import layout, packed
from engine.runners.native.instructions import usable_sets
from engine.runners.native.packed import PackedDetokenizer, packed_from
from engine.runners.openvino.compiled import CompiledModel, Form
from engine.runners.openvino.graphs import prompt_graph
from engine.runners.openvino.precision import Precision
from engine.runners.quantization import WeightKind
from engine.weights.config import ModelConfig

if TYPE_CHECKING:  # these import torch
    from torch import nn

    from engine.upstream.modules import DalleBartDecoder

_PACKING, _STAGES = (Path(__file__).with_name(f"{name}.py") for name in ("packing", "stages"))


def _pack_decoder(decoder: DalleBartDecoder, config: ModelConfig, kind: WeightKind) -> list[NDArray[Any]]:
    from engine.runners.native.packing import pack_decoder  # which imports torch

    return pack_decoder(decoder, config, kind)


def _pack_detokenizer(detokenizer: nn.Module) -> list[NDArray[Any]]:
    from engine.runners.native.stages import pack_detokenizer  # which imports torch

    return pack_detokenizer(detokenizer, quantizes=True).as_arrays()


_SOURCES = (Path(layout.__file__), _PACKING)
NATIVE = Form("native", {"encoding": prompt_graph}, _pack_decoder, sources=_SOURCES)
NATIVE_PIXELS = Form(
    "native-pixels", NATIVE.graphs, _pack_decoder, _pack_detokenizer, (*_SOURCES, _STAGES, Path(packed.__file__))
)


def form_for(precision: Precision) -> Form:
    """Return the form that is fastest on this CPU: without AVX-512, the C code draws 8-bit pixels faster than OpenVINO."""
    has_avx512 = any(each.name == "avx512" for each in usable_sets())
    return NATIVE_PIXELS if precision.quantizes_pixels and not has_avx512 else NATIVE


class OpenVinoEnds:
    """The `Ends` of a compiled model of the form `NATIVE` or `NATIVE_PIXELS`."""

    def __init__(self, model: CompiledModel) -> None:
        self._model = model
        self.config, self.empty_prompt, self.decoder = model.config, model.empty_prompt, model.constants["decoding"]
        arrays = model.constants.get("detokenizing")
        self.detokenizer: PackedDetokenizer | None = None if arrays is None else packed_from(arrays)
        self.reset()

    def reset(self) -> None:
        """Begin new requests: one that has raised may be in an undefined state."""
        self._encoding = self._model.parts["encoding"].create_infer_request()
        if self._model.detokenizer is not None:
            self._model.detokenizer.reset()

    def encode(self, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """Encode a prompt: the keys and values of all layers, [2 layers, T, W], valid until the next call."""
        self._encoding.set_tensor("tokens", ov.Tensor(np.array(tokens, dtype=np.int32)))
        self._encoding.infer()
        keys_values: NDArray[np.float32] = self._encoding.get_tensor("keys_values").data
        return keys_values

    def detokenize(self, grids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Turn token grids [N, H, W] into pixels [N, 16 H, 16 W, 3], if `detokenizer` is None."""
        assert self._model.detokenizer is not None, "the C code detokenizes"
        return self._model.detokenizer.detokenize(grids)
