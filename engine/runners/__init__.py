"""How tensors are computed: one protocol, and the one place where a runner is chosen.

    encode ─> admit ─> step, step, ... (rearrange when images leave) ─> detokenize

A runner knows rows, not requests: image i of the running batch is row i, and `rearrange` says which rows stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from engine.checkpoint import Checkpoint, load_checkpoint
from engine.config import model_spec
from engine.runners.torch import TorchRunner, choose_device, choose_dtype


class Runner(Protocol):
    """Compute what the engine asks for; one thread at a time."""

    def encode(self, text_tokens: Sequence[int]) -> Any:
        """Encode a prompt once; return what `admit` takes for each of its images."""

    def admit(self, prompts: Sequence[Any]) -> None:
        """Append a row for each prompt given, at position 0."""

    def rearrange(self, order: Sequence[int]) -> None:
        """Make row `order[i]` the new row i; rows not named are free."""

    def reset(self) -> None:
        """Free every row and the memory for them; works after any other method has raised, too. Encoded prompts stay valid."""

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Decode one token a row, each at its own position: float32 logits [N, 2, V], unconditional and conditional."""

    def detokenize(self, grids: Tensor) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""


def load_runner(
    model: str, *, models_root: Path | None = None, device: str = "auto", precision: str = "auto", progress: bool = False
) -> tuple[Checkpoint, Runner]:
    """Load a model for a device and a precision, and choose what computes it.

    Raises InvalidRequest where the device or the precision is not to be had, CheckpointError as `load_checkpoint`.
    """
    chosen = choose_device(device)
    dtype = choose_dtype(precision, chosen, model_spec(model))
    checkpoint = load_checkpoint(model, models_root=models_root, dtype=dtype, progress=progress)
    return checkpoint, TorchRunner(checkpoint, chosen)
