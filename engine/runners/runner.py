"""The protocol of a runner: how the engine asks for tensors to be computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

KEPT_PROMPTS = 64  # encoded prompts that nobody draws from; one of Mini's takes 3 to 6 MB


class Runner(Protocol):
    """What computes a model's tensors for the engine, on one thread at a time."""

    def encode(self, text_tokens: Sequence[int]) -> Any:
        """Encode a prompt once; return what `admit` takes for each of its images."""

    def admit(self, prompts: Sequence[Any]) -> None:
        """Append a row for each prompt given, at position 0."""

    def rearrange(self, order: Sequence[int]) -> None:
        """Make row `order[i]` the new row i; rows not named are free. Rows only move down: `order[i]` is never below i."""

    def reset(self) -> None:
        """Free every row and the memory for them; works after any other method has raised, too. Encoded prompts stay valid."""

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Decode one token a row, each at its own position: float32 logits [N, 2, V], unconditional and conditional.

        They are valid until the next step.
        """

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""
