"""What a caller should know about a prompt beside the images: the words that the model does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dalle_model import DalleModel

_NAMED = 8  # things that a warning names
_THINGS = "things"


def prompt_warnings(model: DalleModel, prompt: str) -> list[str]:
    """Return a sentence about the words of a prompt that the model does not know; empty if it knows all, or has no list."""
    known = model.known_words
    unknown = [] if known is None else known.unknown_words(prompt)
    if known is None or not unknown:
        return []
    words = " or ".join(f'"{word}"' for word in unknown)
    things = known.names(_THINGS)
    some = ", ".join(things[:: max(1, len(things) // _NAMED)][:_NAMED])
    return [f"{model.name} does not know {words}. It draws {len(things)} things, such as {some}; its model card lists them."]
