"""A training run that can be stopped at any time and goes on where it was saved, to the same end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from training.caption import describe
from training.painting import as_arrays
from training.scene import random_scene

_SAVE_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class Plan:
    """The hyperparameters of a training run. The learning rate warms up, stays, and falls to zero."""

    steps: int
    batch_size: int
    learning_rate: float
    warm_up: int = 100
    decay: float = 0.6  # the share of the steps, at the end, in which the rate falls to zero
    seed: int = 7

    def rate(self, step: int) -> float:
        """Return the factor on the learning rate at a step."""
        return min(1.0, (step + 1) / self.warm_up, (self.steps - step) / max(1.0, self.decay * self.steps))


class Scenes(Dataset[tuple[Tensor, Tensor, list[str]]]):
    """Batches of random scenes, as `as_arrays` returns them, with captions: always the same for the same step."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, list[str]]:
        """Return a step's batch."""
        rng = Random(self._plan.seed * 1_000_003 + step)
        scenes = [random_scene(rng) for _ in range(self._plan.batch_size)]
        return *as_arrays([scene for scene, _ in scenes]), [describe(*scene, rng) for scene in scenes]


class Run:
    """A run: a model, its optimizers, a plan and the step that it has come to, saved in one file."""

    def __init__(self, path: Path, plan: Plan, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.path, self.plan, self.model, self.optimizers, self.step = path, plan, model, optimizers, 0
        if path.exists():
            state = load(path)
            self.step = state["step"]
            self.model.load_state_dict(state["model"])
            for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)

    def save(self) -> None:
        """Save the run; an interruption leaves the previous save."""
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        partial = self.path.with_suffix(".partial")
        torch.save({"step": self.step, "model": self.model.state_dict(), "optimizers": optimizers}, partial)
        partial.replace(self.path)

    def train(
        self, batches: Dataset[Any], loss_of: Callable[[int, Any], Tensor], *, workers: int = 0, minutes: float | None = None
    ) -> bool:
        """Train to the end of the plan, or for some minutes; return whether the end was reached.

        `loss_of` takes the number of a step and its batch. A line with the loss is added to a log every 50 steps.
        """
        began = saved = time.monotonic()
        smooth: float | None = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".jsonl").open("a", encoding="utf8") as log:
            log.write(json.dumps({"plan": asdict(self.plan), "from": self.step}) + "\n")
            bar = tqdm(total=self.plan.steps, initial=self.step, desc=self.path.stem, unit="step", mininterval=5)
            for batch in self._load(batches, workers):
                loss = self._learn(loss_of(self.step, batch))
                bar.update()
                self.step += 1
                if self.step % 50 == 0 or self.step == self.plan.steps:
                    smooth = loss.item() if smooth is None else 0.7 * smooth + 0.3 * loss.item()
                    bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
                    seconds = round(time.monotonic() - began, 1)
                    log.write(json.dumps({"step": self.step, "loss": round(smooth, 5), "seconds": seconds}) + "\n")
                    log.flush()
                now = time.monotonic()
                is_late = minutes is not None and now - began > 60 * minutes
                if now - saved > _SAVE_EVERY or self.step == self.plan.steps or is_late:
                    self.save()
                    saved = time.monotonic()
                if is_late:
                    break
            bar.close()
        return self.step >= self.plan.steps

    def _load(self, batches: Dataset[Any], workers: int) -> Iterator[Any]:
        """Make the batches of the remaining steps, ahead of time if there are workers."""
        steps = range(self.step, self.plan.steps)
        ahead: dict[str, Any] = {"num_workers": workers, "prefetch_factor": 6} if workers else {}
        return iter(DataLoader(batches, batch_size=None, sampler=steps, **ahead))

    def _learn(self, loss: Tensor) -> Tensor:
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.plan.learning_rate * self.plan.rate(self.step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def load(path: Path) -> dict[str, Any]:
    """Load a saved run: its step, model and optimizers."""
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state


def prepare(device: str, seed: int) -> None:
    """Fix torch's random numbers, and let a GPU take its fast formats."""
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = device == "cuda"
