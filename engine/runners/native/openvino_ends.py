"""OpenVINO before and behind the decoder in C: it encodes prompts and detokenizes pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engine.runners.native import layout
from engine.runners.openvino.compiled import CompiledModel, Form
from engine.runners.openvino.graphs import prompt_graph
from engine.runners.quantization import WeightKind
from engine.weights.config import ModelConfig

if TYPE_CHECKING:  # these import torch
    from engine.runners.native.stages import PackedDetokenizer
    from engine.upstream import DalleBartDecoder

_PACKING = Path(__file__).with_name("packing.py")


def _pack_decoder(decoder: DalleBartDecoder, config: ModelConfig, kind: WeightKind) -> list[NDArray[Any]]:
    from engine.runners.native.packing import pack_decoder  # which imports torch

    return pack_decoder(decoder, config, kind)


NATIVE = Form("native", {"encoding": prompt_graph}, _pack_decoder, (Path(layout.__file__), _PACKING))


class OpenVinoEnds:
    """The `Ends` of a compiled model of the form `NATIVE`."""

    detokenizer: PackedDetokenizer | None = None

    def __init__(self, model: CompiledModel) -> None:
        self._model = model
        self.config, self.empty_prompt, self.decoder = model.config, model.empty_prompt, model.constants["decoding"]
        self.reset()

    def reset(self) -> None:
        """Begin new requests: one that has raised may be in an undefined state."""
        self._encoding = self._model.parts["encoding"].create_infer_request()
        self._model.detokenizer.reset()

    def encode(self, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """Encode a prompt: the keys and values of all layers, [2 layers, T, W], valid until the next call."""
        self._encoding.set_tensor("tokens", ov.Tensor(np.array(tokens, dtype=np.int32)))
        self._encoding.infer()
        keys_values: NDArray[np.float32] = self._encoding.get_tensor("keys_values").data
        return keys_values

    def detokenize(self, grids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Turn token grids [N, H, W] into pixels [N, 16 H, 16 W, 3]."""
        return self._model.detokenizer.detokenize(grids)
