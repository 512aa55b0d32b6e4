"""From image tokens to pixels: min-dalle's VQGAN detokenizer, and a small detokenizer of the same blocks for Tiny."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engine.upstream.modules import AttentionBlock, ResnetBlock, Upsample, VQGanDetokenizer
from engine.weights.config import DetokenizerConfig, ModelConfig


def build_detokenizer(config: ModelConfig) -> nn.Module:
    """Build a model's detokenizer: Tiny's if the configuration has its sizes, min-dalle's otherwise.

    Both have the parts `embedding`, `post_quant_conv` and `decoder`, as the weight files name them.
    """
    if config.detokenizer is None:
        detokenizer: nn.Module = VQGanDetokenizer()
        return attend_over_any_grid(detokenizer)
    return TinyDetokenizer(config.image_vocab_count, config.detokenizer)


def pixels_of(detokenizer: nn.Module, grids: Tensor) -> Tensor:
    """Detokenize grids int64 [N, H, W] to pixels uint8 [N, 16 H, 16 W, 3], in channels-last order."""
    parts: Any = detokenizer
    z = parts.embedding(grids).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return to_bytes(parts.decoder(parts.post_quant_conv(z)))


def to_bytes(pixels: Tensor) -> Tensor:
    """Round pixels [N, 3, H, W] from 0 to 1 to bytes: uint8 [N, H, W, 3]."""
    return (pixels.permute(0, 2, 3, 1).clip(0, 1) * 255).round().to(torch.uint8)


def attend_over_any_grid(detokenizer: nn.Module) -> nn.Module:
    """Replace the VQGAN's attention, in place and under the same names, so that grids need not be square."""
    for part in list(detokenizer.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, AttentionBlock):
                setattr(part, name, GridAttention(child))
    return detokenizer


def four_pixels(weight: Tensor) -> Tensor:
    """Turn a weight [out, in, 3, 3] into one that convolves 2 x 2 pixels at once, in steps of two: [4 out, in, 4, 4]."""
    four = weight.new_zeros(len(weight), 2, 2, weight.shape[1], 4, 4)
    for row in range(2):
        for column in range(2):
            four[:, row, column, :, row : row + 3, column : column + 3] = weight
    return four.flatten(0, 2)


class GridAttention(nn.Module):
    """Self-attention over a grid of any shape, with the weights of min-dalle's `AttentionBlock`, which supports squares only."""

    def __init__(self, block: AttentionBlock) -> None:
        super().__init__()
        self.norm, self.q, self.k, self.v, self.proj_out = block.norm, block.q, block.k, block.v, block.proj_out

    def forward(self, x: Tensor) -> Tensor:
        """Attend from each position to all: features [N, C, H, W] -> the same shape."""
        normed = self.norm(x)
        queries, keys, values = (part(normed).flatten(2) for part in (self.q, self.k, self.v))  # [N, C, H W]
        weights = torch.softmax(queries.transpose(1, 2) @ keys / x.shape[1] ** 0.5, dim=2)
        return x + self.proj_out((values @ weights.transpose(1, 2)).view_as(x))


class TinyDetokenizer(nn.Module):
    """An embedding and a decoder of min-dalle's blocks at small widths, without its attention, which is always 512 wide."""

    def __init__(self, vocab_count: int, config: DetokenizerConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_count, config.embed_count)
        self.post_quant_conv = nn.Conv2d(config.embed_count, config.embed_count, 1)
        self.decoder = TinyUpsampler(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Convert token grids int64 [N, H, W] to pixels [N, 3, 16 H, 16 W], about 0 to 1."""
        z = self.embedding(tokens).permute(0, 3, 1, 2).contiguous()
        pixels: Tensor = self.decoder(self.post_quant_conv(z))
        return pixels


class TinyUpsampler(nn.Module):
    """A decoder that enlarges latents 16 times: by 4, by 2 with min-dalle's `Upsample`, by 2.

    The first and the last step are sub-pixel convolutions (Shi et al. 2016). Copying pixels, as `Upsample` does, gives all
    positions inside a token the same features, and flat images have no texture to tell them apart. There is no norm before the
    last step: its 32 groups, of one channel each, would remove the colours' levels.
    """

    def __init__(self, config: DetokenizerConfig) -> None:
        super().__init__()
        coarse, fine = config.log2_widths
        self.conv_in = nn.Conv2d(config.embed_count, 2**coarse, 3, padding=1)
        self.mid = _Middle(config.middle_blocks, coarse)
        self.expand = nn.Conv2d(2**coarse, 4 * 4 * 2**fine, 1)
        # The last level is the coarsest and runs first, as in the VQGAN.
        first, second = config.level_blocks
        self.up = nn.ModuleList([_Level(second, fine, nn.Identity()), _Level(first, fine, Upsample(fine))])
        self.conv_out = nn.Conv2d(2**fine, 2 * 2 * 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Convert latents [N, E, H, W] to pixels [N, 3, 16 H, 16 W]."""
        z = self.mid(self.conv_in(z))
        z = nn.functional.pixel_shuffle(self.expand(z), 4)
        for level in reversed(self.up):
            z = level(z)
        return nn.functional.pixel_shuffle(self.conv_out(z * torch.sigmoid(z)), 2)


class _Middle(nn.Module):
    """The blocks before the first enlargement, named as the VQGAN's are: `block_1`, `block_2` and so on."""

    def __init__(self, count: int, log2_width: int) -> None:
        super().__init__()
        for number in range(1, count + 1):
            self.add_module(f"block_{number}", ResnetBlock(log2_width, log2_width))

    def forward(self, z: Tensor) -> Tensor:
        for block in self.children():
            z = block(z)
        return z


class _Level(nn.Module):
    """The blocks at one resolution, then an enlargement."""

    def __init__(self, count: int, log2_width: int, upsample: nn.Module) -> None:
        super().__init__()
        self.block = nn.ModuleList([ResnetBlock(log2_width, log2_width) for _ in range(count)])
        self.upsample = upsample

    def forward(self, z: Tensor) -> Tensor:
        for block in self.block:
            z = block(z)
        return self.upsample(z)
