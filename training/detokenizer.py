"""Train Tiny's detokenizer: tokens to pixels.

    python -m training.detokenizer          (can be stopped at any time; the same command resumes)

It trains on whole images, because min-dalle's blocks normalise over the whole image (GroupNorm). The tokens are fixed by then, so
it can run in parallel with the transformer's training.
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

from engine.upstream import ResnetBlock, Upsample
from engine.weights.config import DetokenizerConfig
from engine.weights.detokenizer import TinyDetokenizer
from training.codebook import TOKEN_COUNT, Codebook, token_parts
from training.painting import paint
from training.palette import RGB
from training.patches import GRID
from training.paths import RUNS
from training.scene import random_scene

CONFIG = DetokenizerConfig(embed_count=64, log2_widths=(6, 5))


@dataclass(frozen=True)
class Plan:
    """The hyperparameters of a training run."""

    steps: int = 4200
    batch_size: int = 8
    learning_rate: float = 1e-3
    seed: int = 11

    def rate(self, step: int) -> float:
        """Return the factor on the learning rate at a step."""
        return min((step + 1) / 50, (self.steps - step) / self.steps)


class TrainedDetokenizer(TinyDetokenizer):
    """A `TinyDetokenizer` initialized as nearly linear, its embedding as the principal components of the tokens' patches."""

    def __init__(self, codebook: Codebook) -> None:
        super().__init__(TOKEN_COUNT, CONFIG)
        with torch.no_grad():
            self.embedding.weight.copy_(components(codebook, CONFIG.embed_count))
            self.decoder.conv_out.get_parameter("bias").fill_(0.5)  # the mean of all pixels
        for conv in (self.decoder.expand, self.decoder.conv_out):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        nn.init.dirac_(self.post_quant_conv.weight)
        nn.init.dirac_(self.decoder.conv_in.weight)
        for part in self.modules():
            if isinstance(part, Upsample):
                nn.init.dirac_(part.conv.weight)
            elif isinstance(part, ResnetBlock):
                nn.init.zeros_(part.conv2.weight)


def components(codebook: Codebook, count: int) -> Tensor:
    """Return the first principal components of the tokens' patches, each with variance 1: float32 [TOKEN_COUNT, count]."""
    first, second, mask = token_parts()
    covered = F.pad(torch.from_numpy(codebook.masks), (0, 0, 0, 1))[mask][..., None]  # the last mask, of flat tokens, is empty
    rgb = torch.from_numpy(RGB) / 255
    patches = (rgb[first][:, None] * (1 - covered) + rgb[second][:, None] * covered).flatten(1)
    centred = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    return centred @ vectors[:, -count:] / values[-count:].sqrt()


def batch(codebook: Codebook, plan: Plan, step: int) -> tuple[Tensor, Tensor]:
    """Return a step's tokens int64 [B, 16, 16] and pixels [B, 3, 256, 256], always the same for the same step."""
    rng = Random(plan.seed * 1_000_003 + step)
    images = [paint(random_scene(rng)) for _ in range(plan.batch_size)]
    tokens = np.stack([codebook.encode(image).reshape(GRID, GRID) for image in images])
    return torch.from_numpy(tokens), torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def train(folder: Path, plan: Plan, device: str, save_every: int) -> None:
    """Train to the end of the plan, from the last save if there is one."""
    torch.manual_seed(plan.seed)
    codebook, path = Codebook.load(folder / "codebook.npy"), folder / "detokenizer.pt"
    model = TrainedDetokenizer(codebook).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
    """Train, or resume training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--save_every", type=int, default=200)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    train(RUNS, Plan(options.steps), options.device, options.save_every)


if __name__ == "__main__":
    main()
