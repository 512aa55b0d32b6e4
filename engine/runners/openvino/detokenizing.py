"""The graph that turns tokens into pixels; where asked, its convolutions multiply numbers of 8 bits.

OpenVINO convolves with an image's channels side by side. min-dalle's group norm, taken as it is, turns them apart and back each
time; it is written so here that they stay, which saves a tenth.

A convolution's time is its multiplications, which a CPU with VNNI does four times as fast in 8 bits as in float32. The state that
residual blocks add to stays in float32; only what is convolved is rounded.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

# Pictures of 8 x 8 tokens that show what a convolution is given: each token alone, or in patches of this many tokens a side.
_PATCHES = (1, 1, 2, 4)
_CALIBRATION_SIDE = 8
# Of the picture that is traced, several times over. The graph is that of any size; a whole picture takes ten seconds for it.
_TRACED_SIDE = 4


Module = TypeVar("Module", bound=nn.Module)


class _Pixels(nn.Module):
    """Turn a token grid int64 [1, H, W] into pixels uint8 [1, 16 H, 16 W, 3]."""

    def __init__(self, detokenizer: nn.Module) -> None:
        super().__init__()
        self.parts = detokenizer

    def forward(self, grid: Tensor) -> Tensor:
        z = self.parts.embedding(grid).permute(0, 3, 1, 2)  # type: ignore[operator]
        z = self.parts.decoder(self.parts.post_quant_conv(z))  # type: ignore[operator]
        return (z.permute(0, 2, 3, 1).clip(0, 1) * 255).round().to(torch.uint8)


class _GroupNorm(nn.Module):
    """Normalise as torch.nn.GroupNorm, but take each group's mean, and mean square, over its channels' means."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self._norm = norm

    def forward(self, x: Tensor) -> Tensor:
        own = self._norm
        mean = self._of_groups(x.mean((2, 3)))
        centred = x - mean[..., None, None]
        scale = torch.rsqrt(self._of_groups((centred * centred).mean((2, 3))) + own.eps) * own.weight
        return x * scale[..., None, None] + (own.bias - mean * scale)[..., None, None]

    def _of_groups(self, means: Tensor) -> Tensor:
        """Turn channels' means [1, C] into their groups' [1, C]."""
        grouped = means.view(1, self._norm.num_groups, -1)
        return grouped.mean(2, keepdim=True).expand_as(grouped).reshape(1, -1)


class _LastConvolution(nn.Module):
    """Convolve to red, green and blue, four pixels at once: a register's 16 numbers are then 12 of use, not three."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        four = weight.new_zeros(len(weight), 2, 2, weight.shape[1], 4, 4)
        for row in range(2):
            for column in range(2):
                four[:, row, column, :, row : row + 3, column : column + 3] = weight
        self._weight = four.flatten(0, 2)
        self._bias = convolution.get_parameter("bias").detach().repeat_interleave(4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(nn.functional.conv2d(x, self._weight, self._bias, stride=2, padding=1), 2)


class _RoundedConvolution(nn.Module):
    """Convolve in 8 bits: activations rounded in 255 equal steps over their range, weights in 255 for each channel.

    It has to be shown its range first: it notes that of all it convolves until `round_from_now_on`.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self._convolution = convolution
        self._low = self._high = 0.0
        self._is_rounding = False
        self._scales = (convolution.weight.detach().abs().amax((1, 2, 3)) / 127).clamp(min=1e-12)
        self._no_shift = torch.zeros(len(self._scales), dtype=torch.int32)

    def round_from_now_on(self) -> None:
        """Take what was seen for the range."""
        self._is_rounding = True

    def forward(self, x: Tensor) -> Tensor:
        own = self._convolution
        if not self._is_rounding:
            self._low, self._high = min(self._low, float(x.min())), max(self._high, float(x.max()))
            return own(x)
        step = (self._high - self._low) / 255
        x = torch.fake_quantize_per_tensor_affine(x, step, round(-self._low / step), 0, 255)
        weight = torch.fake_quantize_per_channel_affine(own.weight, self._scales, self._no_shift, 0, -127, 127)
        return nn.functional.conv2d(x, weight, own.bias, own.stride, own.padding)


class _CoarseLevels(nn.Module):
    """Turn a token grid int64 [1, H, W] into what the VQGAN's finest levels take, before it is doubled: [1, 2 H, 2 W, 256]."""

    def __init__(self, detokenizer: nn.Module, fine_levels: int) -> None:
        super().__init__()
        self.parts, self._fine_levels = detokenizer, fine_levels

    def forward(self, grid: Tensor) -> Tensor:
        decoder: Any = self.parts.decoder
        z = self.parts.embedding(grid).permute(0, 3, 1, 2)  # type: ignore[operator]
        z = decoder.mid(decoder.conv_in(self.parts.post_quant_conv(z)))  # type: ignore[operator]
        coarse: list[Any] = list(decoder.up)[self._fine_levels :]
        for level in reversed(coarse):
            level.has_upsample = level is not coarse[0]
            z = level(z)
        return z.permute(0, 2, 3, 1)


def coarse_graph(detokenizer: nn.Module, fine_levels: int) -> ov.Model:
    """Convert a VQGAN without its finest levels.

    `grid` int64 [1, H, W] -> what the first of them doubles, float32 [1, H2, W2, C].
    """
    with torch.inference_mode():
        return _converted(_in_one_layout(_CoarseLevels(detokenizer, fine_levels).eval()))


def detokenizing_graph(detokenizer: nn.Module, *, rounds: bool) -> ov.Model:
    """Convert a detokenizer: `grid` int64 [1, H, W] -> pixels uint8 [1, 16 H, 16 W, 3]."""
    with torch.inference_mode():
        pixels = _in_one_layout(_Pixels(detokenizer).eval())
        if rounds:
            _round_convolutions(pixels)
        return _converted(pixels)


def _converted(module: nn.Module) -> ov.Model:
    example = torch.zeros((1, _TRACED_SIDE, _TRACED_SIDE), dtype=torch.int64)
    traced = torch.jit.trace(module, example, check_trace=False)  # OpenVINO would draw twice more, to check its trace
    return ov.convert_model(traced, input=[ov.PartialShape([1, -1, -1])])


def _in_one_layout(pixels: Module) -> Module:
    """Copy a detokenizer, with what OpenVINO does badly written otherwise."""
    pixels = copy.deepcopy(pixels)
    for parent in list(pixels.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, _GroupNorm(child))
            elif name == "conv_out" and isinstance(child, nn.Conv2d) and child.out_channels == 3:
                setattr(parent, name, _LastConvolution(child))
    return pixels


def _round_convolutions(pixels: _Pixels) -> None:
    """Have a detokenizer round its large convolutions.

    The first and the last stay: they are cheap, and nothing after the last hides what it rounds away.
    """
    rounded = []
    for parent in list(pixels.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3) and name not in ("conv_in", "conv_out"):
                rounded.append(_RoundedConvolution(child))
                setattr(parent, name, rounded[-1])
    for grid in _calibration_grids(pixels.parts.embedding.num_embeddings):  # type: ignore[union-attr, arg-type]
        pixels(grid)
    for convolution in rounded:
        convolution.round_from_now_on()


def _calibration_grids(token_count: int) -> list[Tensor]:
    """Make pictures between noise and flat colours; the norms before the convolutions leave little difference to real ones."""
    random = np.random.default_rng(0)
    grids = []
    for patch in _PATCHES:
        coarse = random.integers(0, token_count, (_CALIBRATION_SIDE // patch,) * 2)
        grids.append(torch.from_numpy(np.kron(coarse, np.ones((patch, patch), dtype=np.int64)))[None])
    return grids
