"""Train the autoencoder: pixels to tokens, and back.

    python -m training.autoencoder          (can be stopped at any time; the same command resumes)

A token must be local: with an encoder that saw the whole picture, pictures came back as well, but a thing's tokens changed with
what was around it, and the transformer could hardly learn them. This one sees a token's 16 x 16 pixels and 8 around. So the same
thing at the same size is the same block of tokens wherever it lies, as things lie at multiples of 16 pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.upstream.modules import ResnetBlock, Upsample
from engine.weights.config import DetokenizerConfig
from engine.weights.detokenizer import TinyUpsampler
from training.codes import LEVELS, quantise, token_codes
from training.painting import Painter
from training.paths import RUNS
from training.run import Plan, Run, Scenes, load, prepare

DETOKENIZER = DetokenizerConfig(embed_count=64, log2_widths=(8, 6), middle_blocks=4, level_blocks=(2, 1))
PLAN = Plan(steps=6000, batch_size=96, learning_rate=5e-4, warm_up=200, seed=1)  # a rate of 1.5e-3 kills it
FILE = "autoencoder.pt"


class Encoder(nn.Module):
    """A convolutional encoder that sees a token's 16 x 16 pixels and 8 around them, no more."""

    def __init__(self, width: int = 96, mixed: int = 768) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(3 * 4 * 4, width, 3, padding=1, padding_mode="replicate"),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
            nn.PixelUnshuffle(4),
            nn.Conv2d(4 * 4 * width, mixed, 1),
            *(_Mixing(mixed) for _ in range(3)),
            _PixelNorm(),
            nn.Conv2d(mixed, len(LEVELS), 1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pixels [B, 3, 16 H, 16 W], 0 to 1, as what `quantise` takes: [B, 5, H, W]."""
        return self.net(pixels * 2 - 1)


class _Mixing(nn.Module):
    """A residual block at one place, which begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.b.weight)
        nn.init.zeros_(self.b.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.silu(self.a(F.silu(x))))


class _PixelNorm(nn.Module):
    """A place's channels scaled to a mean square of 1: what tokens are read from can neither vanish nor blow up."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1e-6).to(x.dtype)


class Detokenizer(nn.Module):
    """Tiny's detokenizer in training: a linear map of a token's code in place of a table of embeddings."""

    def __init__(self, config: DetokenizerConfig = DETOKENIZER) -> None:
        super().__init__()
        self.lift = nn.Linear(len(LEVELS), config.embed_count)
        self.post_quant_conv = nn.Conv2d(config.embed_count, config.embed_count, 1)
        self.decoder = TinyUpsampler(config)
        for part in self.modules():
            if isinstance(part, Upsample):
                nn.init.dirac_(part.conv.weight)
            elif isinstance(part, ResnetBlock):
                nn.init.zeros_(part.conv2.weight)
        nn.init.dirac_(self.post_quant_conv.weight)
        for conv in (self.decoder.expand, self.decoder.conv_out):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        nn.init.constant_(self.decoder.conv_out.get_parameter("bias"), 0.5)  # the mean of all pixels

    def forward(self, codes: Tensor) -> Tensor:
        """Decode codes [B, 5, H, W] to pixels [B, 3, 16 H, 16 W], about 0 to 1."""
        lifted = self.lift(codes.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.decoder(self.post_quant_conv(lifted))

    def embedding(self) -> Tensor:
        """Return the table of embeddings, a row for each token: [TOKEN_COUNT, embed_count]."""
        return self.lift(token_codes().to(self.lift.weight.device))


class Autoencoder(nn.Module):
    """The encoder and the detokenizer."""

    def __init__(self, config: DetokenizerConfig = DETOKENIZER, width: int = 96, mixed: int = 768) -> None:
        super().__init__()
        self.encoder, self.detokenizer = Encoder(width, mixed), Detokenizer(config)

    def forward(self, pixels: Tensor, covered: Tensor) -> Tensor:
        """Return the loss of pixels [B, 3, H, W]: of colours and of steps between neighbours, five times as dear near things."""
        codes, _ = quantise(self.encoder(pixels))
        drawn = self.detokenizer(codes).float()
        weight = 1 + 4 * F.max_pool2d(covered, 9, 1, 4)
        error = (drawn - pixels).abs()
        difference = drawn - pixels
        across = (difference[..., 1:] - difference[..., :-1]).abs() * weight[..., 1:]
        down = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * weight[..., 1:, :]
        return (error * weight).mean() + 4 * (error.square() * weight).mean() + 0.5 * (across.mean() + down.mean())

    @torch.no_grad()
    def tokenize(self, pixels: Tensor) -> Tensor:
        """Encode pixels as tokens: [B, 3, 16 H, 16 W] -> int64 [B, H W]."""
        return quantise(self.encoder(pixels))[1].flatten(1)

    @torch.no_grad()
    def spread(self, pixels: Tensor) -> None:
        """Scale the encoder's last layer so that each of its outputs has mean 0 and variance 1 on a batch: codes that vary."""
        z, last = self.encoder(pixels), self.encoder.net[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        deviation = z.std((0, 2, 3)) + 1e-6
        last.weight.div_(deviation[:, None, None, None])
        last.bias.sub_(z.mean((0, 2, 3))).div_(deviation)


def load_autoencoder(folder: Path) -> Autoencoder:
    """Load a trained autoencoder, ready to use."""
    autoencoder = Autoencoder()
    autoencoder.load_state_dict(load(folder / FILE)["model"])
    return autoencoder.eval().requires_grad_(False)


def train(
    folder: Path,
    plan: Plan,
    device: str,
    new: Callable[[], Autoencoder] = Autoencoder,
    *,
    workers: int = 0,
    use_compile: bool = False,
    minutes: float | None = None,
) -> bool:
    """Train to the end of the plan, from the last save if there is one; return whether the end was reached."""
    prepare(device, plan.seed)
    model = new().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    painter, scenes = Painter(device), Scenes(plan)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=1e-4)
    if not (folder / FILE).exists():
        model.spread(painter(*scenes[0][:2])[0])
    run = Run(folder / FILE, plan, model, [optimizer])
    compiled = torch.compile(model) if use_compile else model

    def loss_of(step: int, batch: tuple[Tensor, Tensor, list[str]]) -> Tensor:
        pixels, covered = painter(*batch[:2])
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            return compiled(pixels.contiguous(memory_format=torch.channels_last), covered)

    return run.train(scenes, loss_of, workers=workers, minutes=minutes)


def main(arguments: list[str] | None = None) -> bool:
    """Train, or resume training; return whether the end was reached."""
    options = training_options(__doc__ or "", PLAN.steps).parse_args(arguments)
    plan = Plan(options.steps, options.batch_size or PLAN.batch_size, PLAN.learning_rate, PLAN.warm_up, seed=PLAN.seed)
    use_compile = options.device == "cuda" and not options.no_compile
    return train(RUNS, plan, options.device, workers=options.workers, use_compile=use_compile, minutes=options.minutes)


def training_options(description: str, steps: int) -> argparse.ArgumentParser:
    """Return a parser of the options that both trainings have."""
    has_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch_size", type=int, help="pictures a step")
    parser.add_argument("--device", default="cuda" if has_gpu else "cpu")
    parser.add_argument("--workers", type=int, default=8 if has_gpu else 0, help="processes that make scenes ahead of time")
    parser.add_argument("--minutes", type=float, help="save and stop after so long; the same command resumes")
    parser.add_argument("--no_compile", action="store_true", help="train without torch.compile")
    return parser


if __name__ == "__main__":
    main()
