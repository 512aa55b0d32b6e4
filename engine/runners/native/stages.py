"""A detokenizer's weights packed for detokenize.h: stages, in float32 or with 8-bit convolutions.

An enlargement that copies pixels is folded into the convolution behind it: of its 3 x 3 inputs at most 2 x 2 differ, and which
ones depends only on whether the output's row and column are even. So a stage has four convolutions of 2 x 2, a phase each, with
4/9 of the multiplications. The phases of a pixel shuffle have different weights.

The first and the last convolution, Tiny's enlargement by 4 and attention stay in float32: they are cheap, and no later layer
hides the last one's rounding errors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engine.runners.native.layout import FLOATS, INT8, PANEL
from engine.runners.native.packed import ATTEND, CONVOLVE, NOTHING, PackedConvolution, PackedDetokenizer, PackedStage
from engine.runners.quantization import as_float32, quantize_int8
from engine.upstream.modules import Upsample
from engine.weights.detokenizer import GridAttention, TinyUpsampler, four_pixels

_STATE, _INNER, _ATTENDED = range(3)
_TOKENS = -1


def pack_detokenizer(detokenizer: nn.Module, *, quantizes: bool) -> PackedDetokenizer:
    """Pack a detokenizer of `build_detokenizer`, with int8 convolutions if it `quantizes`."""
    parts: Any = detokenizer
    with torch.inference_mode():
        stages = _StagePacker(quantizes)
        if isinstance(parts.decoder, TinyUpsampler):
            stages.tiny(parts.decoder)
        else:
            stages.vqgan(parts.decoder)
        first = parts.post_quant_conv
        table = as_float32(parts.embedding.weight) @ as_float32(first.weight)[:, :, 0, 0].T + as_float32(first.bias)
        table = nn.functional.pad(table, (0, -table.shape[1] % PANEL))
    epsilon = next(part.eps for part in detokenizer.modules() if isinstance(part, nn.GroupNorm))
    return PackedDetokenizer(table.numpy(), epsilon, stages.packed)


class _StagePacker:
    """A builder of stages; methods are named for the modules that they take. The state is the features between blocks."""

    def __init__(self, quantizes: bool) -> None:
        self._kind = INT8 if quantizes else FLOATS
        self.packed: list[PackedStage] = []

    def vqgan(self, decoder: Any) -> None:
        """Add the stages of min-dalle's VQGAN."""
        self._convolve(_TOKENS, _STATE, _weights(decoder.conv_in), FLOATS, bias=decoder.conv_in.bias)
        self._residual(decoder.mid.block_1)
        self._attention(decoder.mid.attn_1)
        self._residual(decoder.mid.block_2)
        for level in reversed(decoder.up):
            self._level(level)
        last = decoder.conv_out
        self._convolve(_STATE, _INNER, four_pixels(as_float32(last.weight))[None], FLOATS, norm=decoder.norm_out, swishes=True,
                       bias=last.bias.repeat_interleave(4), stride=2)  # fmt: skip

    def tiny(self, decoder: Any) -> None:
        """Add the stages of Tiny's."""
        self._convolve(_TOKENS, _STATE, _weights(decoder.conv_in), FLOATS, bias=decoder.conv_in.bias)
        for block in decoder.mid.children():
            self._residual(block)
        expanded = decoder.expand.weight
        # A pixel shuffle's phases, from the channels [C, 4, 4].
        phases = as_float32(expanded).view(-1, 16, *expanded.shape[1:]).transpose(0, 1)
        bias = as_float32(decoder.expand.bias).view(-1, 16).T
        self._convolve(_STATE, _STATE, phases, FLOATS, bias=bias)
        for level in reversed(decoder.up):
            self._level(level)
        self._convolve(_STATE, _INNER, _weights(decoder.conv_out), FLOATS, swishes=True, bias=decoder.conv_out.bias)

    def _level(self, level: Any) -> None:
        attentions = getattr(level, "attn", [])
        for index, block in enumerate(level.block):
            self._residual(block)
            if attentions:
                self._attention(attentions[index])
        upsample = getattr(level, "upsample", None)
        if isinstance(upsample, Upsample):
            self._convolve(_STATE, _STATE, _doubled(as_float32(upsample.conv.weight)), self._kind, bias=upsample.conv.bias)

    def _residual(self, block: Any) -> None:
        self._convolve(_STATE, _INNER, _weights(block.conv1), self._kind, norm=block.norm1, swishes=True, bias=block.conv1.bias)
        if not block.is_middle:
            self._convolve(_STATE, _STATE, _weights(block.nin_shortcut), self._kind, bias=block.nin_shortcut.bias)
        self._convolve(
            _INNER, _STATE, _weights(block.conv2), self._kind, norm=block.norm2, swishes=True, bias=block.conv2.bias, added=_STATE
        )

    def _attention(self, block: GridAttention) -> None:
        parts: list[Any] = [block.q, block.k, block.v]
        weight, bias = (torch.cat([getattr(part, name) for part in parts]) for name in ("weight", "bias"))
        self._convolve(_STATE, _INNER, as_float32(weight)[None], FLOATS, norm=block.norm, bias=bias)
        self.packed.append(PackedStage(ATTEND, _INNER, _ATTENDED))
        out: Any = block.proj_out
        self._convolve(_ATTENDED, _STATE, _weights(out), FLOATS, bias=out.bias, added=_STATE)

    def _convolve(
        self,
        source: int,
        target: int,
        weights: Tensor,
        kind: int,
        *,
        bias: Tensor,
        norm: Any = None,
        swishes: bool = False,
        added: int = NOTHING,
        stride: int = 1,
    ) -> None:
        """Add a convolution with a weight for each phase [phases, out, in, side, side] and a bias [out] or [phases, out]."""
        scale_and_bias = None if norm is None else (as_float32(norm.weight).numpy(), as_float32(norm.bias).numpy())
        convolution = _pack_convolution(weights, as_float32(bias), kind, stride)
        self.packed.append(PackedStage(CONVOLVE, source, target, added, scale_and_bias, swishes, convolution))


def _weights(layer: nn.Conv2d) -> Tensor:
    return as_float32(layer.weight)[None]


def _doubled(weight: Tensor) -> Tensor:
    """Fold a doubling of rows and columns into a weight [out, in, 3, 3]: [4 phases, out, in, 2, 2]."""
    # Of three rows, an even row's first is another than the last two, which are copies; an odd row's first two are copies.
    fold = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    return torch.einsum("dyi,exj,ocij->deocyx", fold, fold, weight).flatten(0, 1)


def _pack_convolution(weights: Tensor, bias: Tensor, kind: int, stride: int) -> PackedConvolution:
    phases, outputs, inputs, side, _ = weights.shape
    outputs, inputs = outputs + -outputs % PANEL, inputs + -inputs % PANEL
    weights = nn.functional.pad(weights, (0, 0, 0, 0, 0, inputs - weights.shape[2], 0, outputs - weights.shape[1]))
    bias = bias.expand(phases, -1)
    bias = nn.functional.pad(bias, (0, outputs - bias.shape[1])).contiguous()
    ordered = weights.permute(0, 1, 3, 4, 2).reshape(phases * outputs, side * side * inputs)
    scales, sums = torch.ones(len(ordered)), torch.zeros(len(ordered), dtype=torch.int32)
    if kind == INT8:
        whole, scales = quantize_int8(ordered)
        sums = whole.sum(1, dtype=torch.int32)
        panels = whole.view(-1, PANEL, whole.shape[1] // 4, 4).transpose(1, 2)
    else:
        panels = ordered.view(-1, PANEL, ordered.shape[1]).transpose(1, 2)
    sizes = (kind, inputs, outputs, side, stride, round(phases**0.5))
    return PackedConvolution(sizes, panels.contiguous().numpy(), scales.numpy(), bias.numpy(), sums.numpy())
