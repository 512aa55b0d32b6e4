"""The graph that turns tokens into pixels, with convolutions in float32 or int8.

It is built block by block: OpenVINO's own conversion goes through `torch.jit.trace`, which may break from Python 3.14 on, or
through `torch.export`, which is slow (decision 5).

OpenVINO convolves in a channels-last layout. The group norm is written so that this layout stays; `GroupNormalization` would
convert it and back each time, which takes a tenth of a picture's time.

A convolution's time is its multiplications, which a CPU with VNNI does four times as fast in int8 as in float32. Only the
inputs of convolutions are quantized; the residual state stays in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op
from torch import Tensor, nn

from engine.runners.openvino.calibration import Ranges, convolution_ranges
from engine.runners.openvino.operations import Node, parameter, result
from engine.runners.quantization import as_float32, quantize_int8
from engine.upstream.modules import Upsample
from engine.weights.detokenizer import TinyUpsampler, four_pixels

_SPATIAL = np.array([2, 3])  # the axes of height and width in [1, C, H, W]
_CHANNELS_LAST = np.array([0, 2, 3, 1])


def detokenizing_graph(detokenizer: nn.Module, *, quantizes: bool) -> ov.Model:
    """Build a detokenizer's graph, with int8 convolutions if it `quantizes`.

    `grid` int64 [1, H, W] -> pixels uint8 [1, 16 H, 16 W, 3].
    """
    parts: Any = detokenizer
    with torch.inference_mode():
        blocks = _GraphBuilder(convolution_ranges(detokenizer) if quantizes else {})
    grid = parameter("grid", [1, -1, -1], np.int64)
    draw = blocks.tiny if isinstance(parts.decoder, TinyUpsampler) else blocks.vqgan
    colours = op.clamp(op.transpose(draw(blocks.latents(grid, parts), parts.decoder), op.constant(_CHANNELS_LAST)), 0.0, 1.0)
    pixels = op.convert(op.round(op.multiply(colours, op.constant(np.float32(255))), "half_to_even"), "u8")
    return ov.Model([result("pixels", pixels)], [grid], "detokenizing")


class _GraphBuilder:
    """A builder of min-dalle's blocks as nodes over features [1, C, H, W]; methods are named for the modules they take.

    Convolutions whose weight is in `ranges` are in int8: inputs in 255 equal steps over their range, weights in 254 steps for
    each output channel.
    """

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges

    def latents(self, grid: Node, parts: Any) -> Node:
        """Look up tokens: grid [1, H, W] -> the decoder's input."""
        embedded = op.gather(_constant(parts.embedding.weight), grid, op.constant(0))
        return self._convolution(op.transpose(embedded, op.constant(np.array([0, 3, 1, 2]))), parts.post_quant_conv)

    def vqgan(self, x: Node, decoder: Any) -> Node:
        """Decode latents to colours [1, 3, 16 H, 16 W], about 0 to 1."""
        x = self._residual(self._convolution(x, decoder.conv_in), decoder.mid.block_1)
        x = self._residual(_attention(x, decoder.mid.attn_1), decoder.mid.block_2)
        for level in reversed(decoder.up):
            x = self._level(x, level)
        return _last_convolution(op.swish(_group_norm(x, decoder.norm_out)), decoder.conv_out)

    def tiny(self, x: Node, decoder: Any) -> Node:
        """Decode latents to colours [1, 3, 16 H, 16 W], about 0 to 1."""
        x = self._convolution(x, decoder.conv_in)
        for block in decoder.mid.children():
            x = self._residual(x, block)
        x = op.depth_to_space(self._convolution(x, decoder.expand), "depth_first", 4)
        for level in reversed(decoder.up):
            x = self._level(x, level)
        return op.depth_to_space(self._convolution(op.swish(x), decoder.conv_out), "depth_first", 2)

    def _level(self, x: Node, level: Any) -> Node:
        attentions = getattr(level, "attn", [])
        for index, block in enumerate(level.block):
            x = self._residual(x, block)
            if attentions:
                x = _attention(x, attentions[index])
        upsample = getattr(level, "upsample", None)
        return self._convolution(_doubled(x), upsample.conv) if isinstance(upsample, Upsample) else x

    def _residual(self, x: Node, block: Any) -> Node:
        inner = self._convolution(op.swish(_group_norm(x, block.norm1)), block.conv1)
        inner = self._convolution(op.swish(_group_norm(inner, block.norm2)), block.conv2)
        return op.add(x if block.is_middle else self._convolution(x, block.nin_shortcut), inner)

    def _convolution(self, x: Node, layer: nn.Conv2d) -> Node:
        if layer.weight not in self._ranges:
            return _convolved(x, _constant(layer.weight), layer)
        low, high = self._ranges[layer.weight]
        step = (high - low) / 255
        zero = round(-low / step)
        ends = [op.constant(np.float32((end - zero) * step)) for end in (0, 255)]
        weight = as_float32(layer.weight)
        whole, scales = quantize_int8(weight.flatten(1))
        scaled = op.multiply(op.convert(_constant(whole.view_as(weight)), "f32"), _constant(scales[..., None, None]))
        return _convolved(op.fake_quantize(x, *ends, *ends, 256), scaled, layer)


def _convolved(x: Node, weight: Node, layer: nn.Conv2d) -> Node:
    pads = list(layer.padding)
    product = op.convolution(x, weight, [1, 1], pads, pads, [1, 1])
    return op.add(product, _constant(layer.get_parameter("bias").view(1, -1, 1, 1)))


def _last_convolution(x: Node, layer: nn.Conv2d) -> Node:
    """Convolve to red, green and blue for four pixels at once: that uses 12 of a register's 16 numbers instead of three."""
    product = op.convolution(x, _constant(four_pixels(as_float32(layer.weight))), [2, 2], [1, 1], [1, 1], [1, 1])
    bias = layer.get_parameter("bias").repeat_interleave(4).view(1, -1, 1, 1)
    return op.depth_to_space(op.add(product, _constant(bias)), "depth_first", 2)


def _group_norm(x: Node, norm: nn.GroupNorm) -> Node:
    """Normalise as torch.nn.GroupNorm does, but take a group's mean, and mean square, over its channels' means."""
    mean = _group_means(x, norm)
    centred = op.subtract(x, _broadcast(mean))
    deviation = op.sqrt(op.add(_group_means(op.multiply(centred, centred), norm), op.constant(np.float32(norm.eps))))
    scale = op.multiply(op.divide(op.constant(np.float32(1)), deviation), _constant(norm.weight[None]))
    shift = op.subtract(_constant(norm.bias[None]), op.multiply(mean, scale))
    return op.add(op.multiply(x, _broadcast(scale)), _broadcast(shift))


def _group_means(x: Node, norm: nn.GroupNorm) -> Node:
    """Average each group, and repeat the average for each of its channels: [1, C, H, W] -> [1, C]."""
    groups, width = norm.num_groups, norm.num_channels // norm.num_groups
    means = _reshaped(op.reduce_mean(x, op.constant(_SPATIAL)), [1, groups, width])
    means = op.reduce_mean(means, op.constant(np.array([2])), keep_dims=True)
    return _reshaped(op.broadcast(means, op.constant(np.array([1, groups, width]))), [1, -1])


def _broadcast(channels: Node) -> Node:
    """Append a height and width of 1, to broadcast a number for each channel: [1, C] -> [1, C, 1, 1]."""
    return op.unsqueeze(channels, op.constant(_SPATIAL))


def _attention(x: Node, block: Any) -> Node:
    """Attend from each position to all."""
    normed = _group_norm(x, block.norm)
    queries, keys, values = (
        _reshaped(_convolved(normed, _constant(part.weight), part), [0, 0, -1]) for part in (block.q, block.k, block.v)
    )  # [1, C, H W]
    width = op.constant(np.float32(block.q.out_channels**0.5))
    weights = op.softmax(op.divide(op.matmul(queries, keys, True, False), width), 2)
    mixed = op.reshape(op.matmul(values, weights, False, True), op.shape_of(x), special_zero=False)
    return op.add(x, _convolved(mixed, _constant(block.proj_out.weight), block.proj_out))


def _doubled(x: Node) -> Node:
    """Double height and width by copying pixels."""
    scales = op.constant(np.array([2, 2], dtype=np.float32))
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return op.interpolate(x, scales, "nearest", "scales", axes=op.constant(_SPATIAL), **how)


def _reshaped(x: Node, shape: list[int]) -> Node:
    """Reshape a node: 0 keeps a length, -1 takes the rest."""
    return op.reshape(x, op.constant(np.array(shape)), special_zero=True)


def _constant(tensor: Tensor) -> Node:
    """Create a constant that reads a tensor in place, and keeps it alive."""
    tensor = tensor.detach()
    return op.constant((tensor if tensor.dtype == torch.int8 else as_float32(tensor)).numpy(), shared_memory=True)
