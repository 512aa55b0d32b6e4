"""What a caller should know about a prompt beside the images: the words that the model does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dalle_model import DalleModel


def prompt_warnings(model: DalleModel, prompt: str) -> list[str]:
    """Return a sentence about the words of a prompt that the model does not know; empty if it knows all, or has no list."""
    return [] if model.known_words is None else model.known_words.warnings(prompt, model.name)
