"""Train Tiny's detokenizer: tokens to pixels.

    python -m training.detokenizer          (stop it at any time; the same command goes on)

Convolutions are local, so most steps see crops around an edge; the last ones see whole pictures, because min-dalle's blocks
normalise over the whole picture (GroupNorm). The tokens are fixed by then: this can run beside the transformer's training.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from engine.config import DetokenizerConfig
from engine.detokenizer import TinyDetokenizer
from training.codebook import TOKEN_COUNT, Codebook, token_parts
from training.painting import paint
from training.palette import RGB
from training.patches import GRID, PATCH
from training.paths import RUNS
from training.scene import random_scene

CONFIG = DetokenizerConfig(embed_count=48, log2_widths=(6, 6, 5, 5))
CROP = 6  # tokens on a side: 96 pixels


@dataclass(frozen=True)
class Plan:
    """Hold how long and how hard to train."""

    crop_steps: int = 1300
    picture_steps: int = 300
    crops: int = 32
    pictures: int = 4
    learning_rate: float = 3e-3
    seed: int = 11

    @property
    def steps(self) -> int:
        """Return how many steps there are in all."""
        return self.crop_steps + self.picture_steps

    def rate(self, step: int) -> float:
        """Return the factor on the learning rate at a step."""
        return min((step + 1) / 50, (self.steps - step) / (0.6 * self.steps), 1.0)


class TrainedDetokenizer(TinyDetokenizer):
    """Train `TinyDetokenizer`, its embedding begun as what each token looks like, 4 x 4 pixels small."""

    def __init__(self, codebook: Codebook) -> None:
        super().__init__(TOKEN_COUNT, CONFIG)
        with torch.no_grad():
            self.embedding.weight.copy_(thumbnails(codebook))

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens [B, H, W] into pixels [B, 3, 16 H, 16 W], about 0 to 1."""
        z = self.embedding(tokens).permute(0, 3, 1, 2).contiguous()
        pixels: Tensor = self.decoder(self.post_quant_conv(z))
        return pixels


def thumbnails(codebook: Codebook) -> Tensor:
    """Return each token's patch in 4 x 4 pixels, about -2 to 2: float32 [TOKEN_COUNT, 48]."""
    first, second, mask = token_parts()
    small = torch.from_numpy(codebook.masks).reshape(-1, 4, PATCH // 4, 4, PATCH // 4).mean((2, 4)).flatten(1)
    covered = F.pad(small, (0, 0, 0, 1))[mask][:, :, None]  # a flat token has the mask past the last: nothing
    rgb = torch.from_numpy(RGB) / 255
    patches = rgb[first][:, None] * (1 - covered) + rgb[second][:, None] * covered
    return (patches.flatten(1) - 0.5) * 4


def batch(codebook: Codebook, plan: Plan, step: int) -> tuple[Tensor, Tensor]:
    """Return tokens [B, H, W] and pixels [B, 3, 16 H, 16 W] of a step: crops first, whole pictures later."""
    rng = Random(plan.seed * 1_000_003 + step)
    is_crop = step < plan.crop_steps
    all_tokens, all_pixels = [], []
    for _ in range(plan.pictures if not is_crop else plan.crops // 2):
        picture = paint(random_scene(rng))
        tokens = codebook.encode(picture).reshape(GRID, GRID)
        corners = [(0, 0)]
        if is_crop:
            edges = np.argwhere(tokens >= 12)
            near = [edges[rng.randrange(len(edges))] - rng.randrange(CROP) for _ in range(2)]
            corners = [tuple(np.clip(corner, 0, GRID - CROP)) for corner in near]
        side = CROP if is_crop else GRID
        for top, left in corners:
            all_tokens.append(tokens[top : top + side, left : left + side])
            rows = slice(top * PATCH, (top + side) * PATCH)
            all_pixels.append(picture[rows, left * PATCH : (left + side) * PATCH])
    pixels = torch.from_numpy(np.stack(all_pixels)).permute(0, 3, 1, 2).float() / 255
    return torch.from_numpy(np.stack(all_tokens)), pixels


def train(folder: Path, plan: Plan, device: str, save_every: int) -> None:
    """Train to the end of the plan, going on where a save was left."""
    torch.manual_seed(plan.seed)
    codebook, path = Codebook.load(folder / "codebook.npy"), folder / "detokenizer.pt"
    model = TrainedDetokenizer(codebook).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=1e-4)
    first = 0
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=device)
        first = state["step"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    bar, smooth = tqdm(range(first, plan.steps), initial=first, total=plan.steps, desc="detokenizer", mininterval=5), None
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * plan.rate(step)
        tokens, pixels = batch(codebook, plan, step)
        error = model(tokens.to(device)) - pixels.to(device)
        loss = error.abs().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        bar.set_postfix(l1=f"{smooth * 255:.2f}/255", refresh=False)
        if (step + 1) % save_every == 0 or step + 1 == plan.steps:
            partial = path.with_suffix(".partial")
            torch.save({"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, partial)
            partial.replace(path)


def main(arguments: list[str] | None = None) -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crop_steps", type=int, default=Plan.crop_steps)
    parser.add_argument("--picture_steps", type=int, default=Plan.picture_steps)
    parser.add_argument("--save_every", type=int, default=200)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    train(RUNS, Plan(options.crop_steps, options.picture_steps), options.device, options.save_every)


if __name__ == "__main__":
    main()
