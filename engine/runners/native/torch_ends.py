"""torch before the decoder in C, where OpenVINO can't run, and behind it in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.runners.native.packed import PackedDetokenizer
from engine.runners.native.packing import pack_decoder
from engine.runners.native.stages import pack_detokenizer
from engine.runners.quantization import WeightKind
from engine.runners.torch.runner import TorchRunner
from engine.weights.checkpoint import Checkpoint


class TorchEnds:
    """The `Ends` of a checkpoint in float32; in 8 bits, the C code detokenizes."""

    def __init__(self, checkpoint: Checkpoint, kind: WeightKind, *, quantizes_pixels: bool) -> None:
        """Pack weights for the C code; of torch's own decoder only what encodes prompts is used."""
        self.config = checkpoint.config
        self.decoder: Sequence[NDArray[Any]] = pack_decoder(checkpoint.decoder, checkpoint.config, kind)
        self.detokenizer: PackedDetokenizer | None = None
        if quantizes_pixels:
            self.detokenizer = pack_detokenizer(checkpoint.detokenizer, quantizes=True)
            checkpoint = replace(checkpoint, detokenizer=nn.Identity())  # torch needs its weights no longer
        names = checkpoint.tokenizer.token_from_subword
        self.empty_prompt: tuple[int, ...] = (names["<s>"], names["</s>"])
        self._runner = TorchRunner(checkpoint, torch.device("cpu"))

    def reset(self) -> None:
        """Do nothing: torch keeps no state."""

    def encode(self, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        """Encode a prompt: the keys and values of all layers, [2 layers, T, W]."""
        keys_values = self._runner.encode_row(tokens)[0]  # [layers, 2, heads, 64, head width]
        joined = keys_values[..., : len(tokens), :].transpose(2, 3).flatten(-2).flatten(0, 1)
        array: NDArray[np.float32] = joined.contiguous().numpy()
        return array

    def detokenize(self, grids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Turn token grids [N, H, W] into pixels [N, 16 H, 16 W, 3]."""
        return self._runner.detokenize(grids)
