"""Train Tiny's transformer: prompts to image tokens.

    python -m training.transformer          (can be stopped at any time; the same command resumes)

Muon (Jordan et al. 2024) trains the hidden matrices, AdamW the tables and scales. The learning rate warms up, stays, and falls to
zero ("warm-up, stable, decay", Hu et al. 2024); then it restarts at about half and falls to zero again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from engine.weights.config import ModelConfig
from engine.weights.tokenizer import load_tokenizer
from training.codebook import TOKEN_COUNT, Codebook
from training.model import TinyTransformer
from training.paths import RUNS
from training.pool import Pool
from training.vocabulary import write as write_vocabulary

TABLES = ("tokens.", "head.", "positions.", "embed_", "norm", ".ln")


@dataclass(frozen=True)
class Plan:
    """The hyperparameters of a training run."""

    steps: int = 8000
    batch_size: int = 32
    learning_rate: float = 3e-3
    warm_up: int = 100
    decay: float = 0.6  # the share of the first cycle's steps, at its end, in which the rate falls to zero
    restart: int = 5500  # the step at which the second cycle starts: a warm restart (Loshchilov and Hutter, "SGDR", 2017)
    restart_rate: float = 0.55  # the factor at its start, which falls to zero by its end
    weight_decay: float = 0.01
    seed: int = 7

    def rate(self, step: int) -> float:
        """Return the factor on the learning rate at a step."""
        first = min(self.steps, self.restart)
        if step >= first:
            return self.restart_rate * (self.steps - step) / (self.steps - first)
        return min(1.0, (step + 1) / self.warm_up, (first - step) / (self.decay * first))


def tiny_config(text_vocab_count: int) -> ModelConfig:
    """Return Tiny's sizes."""
    return ModelConfig(
        name="tiny",
        embed_count=192,
        attention_head_count=6,
        glu_embed_count=448,
        encoder_layer_count=2,
        decoder_layer_count=5,
        text_vocab_count=text_vocab_count,
        image_vocab_count=TOKEN_COUNT,
        decoder_start_token_id=TOKEN_COUNT,
    )


def optimizers(model: TinyTransformer, plan: Plan) -> list[torch.optim.Optimizer]:
    """Return Muon for the hidden matrices and AdamW for the rest."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in trained if p.ndim == 2 and not any(table in name for table in TABLES)]
    rest = [p for name, p in trained if not any(p is other for other in hidden)]
    return [
        torch.optim.Muon(hidden, lr=plan.learning_rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=plan.weight_decay),
    ]


class Run:
    """A training run that can be stopped and resumed: the model, its optimizers, the step."""

    def __init__(self, folder: Path, plan: Plan, device: str) -> None:
        self.folder, self.plan, self.device, self.step = folder, plan, device, 0
        if not (folder / "vocab.json").exists():
            write_vocabulary(folder)
        tokenizer = load_tokenizer(folder)
        self.pool = Pool(Codebook.load(folder / "codebook.npy"), tokenizer, plan.seed)
        torch.manual_seed(plan.seed)
        self.model = TinyTransformer(tiny_config(len(tokenizer.token_from_subword))).to(device)
        self.optimizers = optimizers(self.model, plan)

    @property
    def path(self) -> Path:
        """The file that the run is saved in."""
        return self.folder / "transformer.pt"

    def save(self) -> None:
        """Save the run; an interruption leaves the previous save."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    def resume(self) -> None:
        """Continue from the last save."""
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)

    def train_step(self, loss_of: Callable[..., torch.Tensor]) -> float:
        """Train on the next batch; return the loss in nats per token."""
        batch = self.pool.batch(self.step, self.plan.batch_size)
        parts = batch.text, batch.image, batch.places, batch.weights
        loss = loss_of(*(part.to(self.device) for part in parts))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.plan.learning_rate * self.plan.rate(self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()


def train(run: Run, *, save_every: int, use_compile: bool) -> None:
    """Train to the end of the plan, with a progress bar, a log and regular saves."""
    loss_of = torch.compile(run.model) if use_compile else run.model
    smooth, since = None, time.monotonic()
    with (run.folder / "transformer.jsonl").open("a", encoding="utf8") as log:
        log.write(json.dumps({"plan": asdict(run.plan), "from": run.step}) + "\n")
        bar = tqdm(total=run.plan.steps, initial=run.step, desc="transformer", unit="step", mininterval=5)
        while run.step < run.plan.steps:
            loss = run.train_step(loss_of)
            smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
            bar.update()
            bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
            if run.step % 50 == 0:
                seconds = round(time.monotonic() - since, 1)
                log.write(json.dumps({"step": run.step, "loss": round(smooth, 5), "seconds": seconds}) + "\n")
                log.flush()
            if run.step % save_every == 0 or run.step == run.plan.steps:
                run.save()
        bar.close()


def main(arguments: list[str] | None = None) -> None:
    """Train, or resume training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--batch_size", type=int, default=Plan.batch_size)
    parser.add_argument("--learning_rate", type=float, default=Plan.learning_rate)
    parser.add_argument("--save_every", type=int, default=200)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no_compile", action="store_true", help="train without torch.compile: a fifth slower")
    options = parser.parse_args(arguments)
    plan = Plan(steps=options.steps, batch_size=options.batch_size, learning_rate=options.learning_rate)
    run = Run(RUNS, plan, options.device)
    if run.path.exists():
        run.resume()
    train(run, save_every=options.save_every, use_compile=not options.no_compile and _has_compiler())


def _has_compiler() -> bool:
    """Whether the C++ compiler that torch.compile needs on a CPU is installed; print a note if not."""
    found = shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))  # as torch looks for it
    if found is None:
        print("There is no C++ compiler (Debian: apt-get install g++): training without torch.compile, a fifth slower.")
    return found is not None


if __name__ == "__main__":
    main()
