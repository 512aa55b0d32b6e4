"""The protocol between the engine and the runners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

PROMPT_CACHE_SIZE = 64  # encoded prompts that a runner keeps; one of Mini's takes 3 to 6 MB


class Runner(Protocol):
    """A model on a device. It computes for the engine, on one thread at a time.

    An image has a slot of two rows, unconditional and conditional.
    """

    def encode(self, text_tokens: Sequence[int], negative_tokens: Sequence[int] | None = None) -> Any:
        """Encode a prompt once, and its negative prompt or the empty one; `admit` takes the result for each of its images."""

    def admit(self, prompts: Sequence[Any]) -> None:
        """Append a slot for each prompt, at position 0."""

    def rearrange(self, order: Sequence[int]) -> None:
        """Move slot `order[i]` to slot i, and free all others. Slots only move down: `order[i]` is never below i."""

    def reset(self) -> None:
        """Free all slots and their memory, even after another method has raised. Encoded prompts stay valid."""

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Decode one token for each image, at its own position: float32 logits [N, 2, V], unconditional and conditional.

        They are valid until the next step.
        """

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""
