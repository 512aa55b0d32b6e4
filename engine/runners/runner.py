"""The protocols between the engine and the runners.

The engine asks a `Runner` for tokens. A runner that keeps the tokens on its own device is one; `SamplingRunner` makes one of
a `LogitsRunner`, which can also be asked for logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from engine.request import SamplingSettings

PROMPT_CACHE_SIZE = 64  # encoded prompts that a runner keeps; one of Mini's takes 3 to 6 MB


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """How one image's tokens are drawn."""

    sampling: SamplingSettings
    uniforms: Sequence[float]  # 256, 0 <= u < 1
    needs_likelihoods: bool = False  # whether the image has other candidates


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The next tokens of the images in the batch, the same number S of each."""

    tokens: NDArray[Any]  # int64 [N, S]
    likelihoods: NDArray[Any]  # float64 [N, S]: their log-likelihoods given the text, in nats; NaN where not asked for
    not_finite: Sequence[int] = ()  # images whose logits were not finite: their tokens mean nothing


class _Slots(Protocol):
    """What all runners have in common. One thread at a time calls them.

    An image has a slot of two rows, unconditional and conditional.
    """

    @property
    def pictures_at_once(self) -> int:
        """How many pictures `detokenize` computes at once; of more, one such part after the other."""

    def encode(self, text_tokens: Sequence[int], negative_tokens: Sequence[int] | None = None) -> Any:
        """Encode a prompt once, and its negative prompt or the empty one; `admit` takes the result for each of its images."""

    def rearrange(self, order: Sequence[int]) -> None:
        """Move slot `order[i]` to slot i, and free all others. Slots only move down: `order[i]` is never below i."""

    def reset(self) -> None:
        """Free all slots and their memory, even after another method has raised. Encoded prompts stay valid."""

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""


class Runner(_Slots, Protocol):
    """A model on a device that draws the tokens of a batch."""

    def admit(self, prompts: Sequence[Any], draws: Sequence[Draw]) -> None:
        """Append a slot for each prompt, at position 0, with how its tokens are drawn."""

    def draw(self, steps: int) -> Drawn:
        """Draw the next tokens of each image, each at its own position: at least one, at most `steps`, as the runner likes.

        An image's tokens depend on its prompt and its `Draw` alone.
        """


class LogitsRunner(_Slots, Protocol):
    """A model on a device that computes logits, or draws from them, and remembers no token."""

    def admit(self, prompts: Sequence[Any]) -> None:
        """Append a slot for each prompt, at position 0."""

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Decode one token for each image, at its own position: float32 logits [N, 2, V], unconditional and conditional.

        They are valid until the next step.
        """

    def draw(self, tokens: Sequence[int], positions: Sequence[int], draws: Sequence[Draw], steps: int) -> Drawn:
        """Draw the next tokens of each image, from its last token and that one's position, as `Runner.draw` does.

        `draws` is the same object as long as the images are the same.
        """
