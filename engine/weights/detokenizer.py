"""From image tokens to pixels: min-dalle's VQGAN detokenizer, and a small one of its blocks for Tiny."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.upstream import AttentionBlock, ResnetBlock, Upsample, VQGanDetokenizer
from engine.weights.config import DetokenizerConfig, ModelConfig


def build_detokenizer(config: ModelConfig) -> nn.Module:
    """Build the detokenizer that a model's configuration asks for: min-dalle's own if it says nothing.

    Either has the parts `embedding`, `post_quant_conv` and `decoder`, under the names that the weight files use.
    """
    if config.detokenizer is None:
        detokenizer: nn.Module = VQGanDetokenizer()
        return attend_over_any_grid(detokenizer)
    return TinyDetokenizer(config.image_vocab_count, config.detokenizer)


def attend_over_any_grid(detokenizer: nn.Module) -> nn.Module:
    """Let the VQGAN's attention take grids that are no squares; return the same detokenizer, under the same names."""
    for part in list(detokenizer.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, AttentionBlock):
                setattr(part, name, GridAttention(child))
    return detokenizer


class GridAttention(nn.Module):
    """Attend from each place of a grid to all: min-dalle's `AttentionBlock`, which takes any grid for a square."""

    def __init__(self, block: AttentionBlock) -> None:
        super().__init__()
        self.norm, self.q, self.k, self.v, self.proj_out = block.norm, block.q, block.k, block.v, block.proj_out

    def forward(self, x: Tensor) -> Tensor:
        """Mix features [N, C, H, W]."""
        normed = self.norm(x)
        queries, keys, values = (part(normed).flatten(2) for part in (self.q, self.k, self.v))  # [N, C, H W]
        weights = torch.softmax(queries.transpose(1, 2) @ keys / x.shape[1] ** 0.5, dim=2)
        return x + self.proj_out((values @ weights.transpose(1, 2)).view_as(x))


class TinyDetokenizer(nn.Module):
    """Hold an embedding and a decoder of min-dalle's blocks at small widths, without its attention (512 wide, always)."""

    def __init__(self, vocab_count: int, config: DetokenizerConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_count, config.embed_count)
        self.post_quant_conv = nn.Conv2d(config.embed_count, config.embed_count, 1)
        self.decoder = TinyUpsampler(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn token grids int64 [N, H, W] into pixels [N, 3, 16 H, 16 W], about 0 to 1."""
        z = self.embedding(tokens).permute(0, 3, 1, 2).contiguous()
        pixels: Tensor = self.decoder(self.post_quant_conv(z))
        return pixels


class TinyUpsampler(nn.Module):
    """Widen latents 16 times: by 4, by 2 with min-dalle's `Upsample`, by 2.

    The first and the last are sub-pixel convolutions (Shi et al. 2016): doubling by copying, as `Upsample` does, tells no
    position inside a token, and flat pictures have nothing else to tell it by. No norm before the last: 32 groups of one channel
    each would take the colours' levels away.
    """

    def __init__(self, config: DetokenizerConfig) -> None:
        super().__init__()
        coarse, fine = config.log2_widths
        self.conv_in = nn.Conv2d(config.embed_count, 2**coarse, 3, padding=1)
        self.mid = _Middle(coarse)
        self.expand = nn.Conv2d(2**coarse, 4 * 4 * 2**fine, 1)
        # The last is the coarsest and is run first, as in the VQGAN.
        self.up = nn.ModuleList([_Level(fine, nn.Identity()), _Level(fine, Upsample(fine))])
        self.conv_out = nn.Conv2d(2**fine, 2 * 2 * 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Turn latents [N, E, H, W] into pixels [N, 3, 16 H, 16 W]."""
        z = self.mid(self.conv_in(z))
        z = nn.functional.pixel_shuffle(self.expand(z), 4)
        for level in reversed(self.up):
            z = level(z)
        return nn.functional.pixel_shuffle(self.conv_out(z * torch.sigmoid(z)), 2)


class _Middle(nn.Module):
    """Compute on the latents before they are widened."""

    def __init__(self, log2_width: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(log2_width, log2_width)

    def forward(self, z: Tensor) -> Tensor:
        return self.block_1(z)


class _Level(nn.Module):
    """Compute at one resolution, then widen."""

    def __init__(self, log2_width: int, upsample: nn.Module) -> None:
        super().__init__()
        self.block = nn.ModuleList([ResnetBlock(log2_width, log2_width)])
        self.upsample = upsample

    def forward(self, z: Tensor) -> Tensor:
        return self.upsample(self.block[0](z))
