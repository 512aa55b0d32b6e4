"""From image tokens to pixels: min-dalle's VQGAN detokenizer, and a small one of the same form for Tiny."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.config import DetokenizerConfig, ModelConfig
from engine.upstream import ResnetBlock, Upsample, VQGanDetokenizer

_GRID = 16  # tokens on a side


def build_detokenizer(config: ModelConfig) -> nn.Module:
    """Build the detokenizer that a model's configuration asks for: min-dalle's own if it says nothing.

    Either has the parts `embedding`, `post_quant_conv` and `decoder`, under the names that the weight files use.
    """
    if config.detokenizer is None:
        detokenizer: nn.Module = VQGanDetokenizer()
        return detokenizer
    return TinyDetokenizer(config.image_vocab_count, config.detokenizer)


class TinyDetokenizer(nn.Module):
    """Decode image tokens with min-dalle's blocks at small widths: one for each doubling and none at full size, without its
    attention (512 wide, always)."""

    def __init__(self, vocab_count: int, config: DetokenizerConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_count, config.embed_count)
        self.post_quant_conv = nn.Conv2d(config.embed_count, config.embed_count, 1)
        self.decoder = _Decoder(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens [N, 256] into pixels [N, 256, 256, 3], 0 to 255, float32."""
        z = self.embedding(tokens).view(tokens.shape[0], _GRID, _GRID, -1)
        z = self.decoder(self.post_quant_conv(z.permute(0, 3, 1, 2).contiguous()))
        pixels: Tensor = z.permute(0, 2, 3, 1).clip(0.0, 1.0) * 255
        return pixels


class _Decoder(nn.Module):
    """Widen 16 x 16 latents to 256 x 256 pixels."""

    def __init__(self, config: DetokenizerConfig) -> None:
        super().__init__()
        widths = config.log2_widths
        self.conv_in = nn.Conv2d(config.embed_count, 2 ** widths[0], 3, padding=1)
        self.mid = _Middle(widths[0])
        # The last of `up` is the coarsest and is run first, as in the VQGAN.
        levels = [_Level(before, width) for before, width in zip((widths[0], *widths), widths)]
        self.up = nn.ModuleList(reversed(levels))
        self.conv_out = nn.Conv2d(2 ** widths[-1], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        z = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            z = level(z)
        # No norm before this, unlike the VQGAN's: 32 groups of one channel each would take the colours' levels away.
        pixels: Tensor = self.conv_out(z * torch.sigmoid(z))
        return pixels


class _Middle(nn.Module):
    """Compute on the latents before they are widened."""

    def __init__(self, log2_width: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(log2_width, log2_width)

    def forward(self, z: Tensor) -> Tensor:
        same_shape: Tensor = self.block_1(z)
        return same_shape


class _Level(nn.Module):
    """Compute at one resolution, then double it."""

    def __init__(self, log2_in: int, log2_out: int) -> None:
        super().__init__()
        self.block = nn.ModuleList([ResnetBlock(log2_in, log2_out)])
        self.upsample = Upsample(log2_out)

    def forward(self, z: Tensor) -> Tensor:
        widened: Tensor = self.upsample(self.block[0](z))
        return widened
