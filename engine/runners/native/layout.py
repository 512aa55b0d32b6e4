"""What decode.c is compiled for: its panels, the kinds of its numbers, and the sizes that it supports."""

from __future__ import annotations

from engine.runners.quantization import INT4_GROUP
from engine.weights.config import ModelConfig

PANEL = 16  # output channels, one register
PIECE = 64  # output channels that a thread computes at a time
MAX_WIDTH = 4096  # inputs
MAX_HEAD_WIDTH = 256
MAX_LENGTH = 256  # positions that a row attends to, of an image or a prompt
GROUP = INT4_GROUP  # inputs that share a scale in int8

FLOATS, HALVES, BFLOATS, INT8, INT7, INT4 = range(6)


def unsupported_reason(config: ModelConfig) -> str | None:
    """Return why decode.c can't run a model of these sizes, or None if it can."""
    head_width, widest = config.embed_count // config.attention_head_count, max(config.embed_count, config.glu_embed_count)
    if config.text_token_count > MAX_LENGTH:
        return f"it reads prompts of {config.text_token_count} tokens, more than {MAX_LENGTH}"
    if head_width % PANEL or head_width > MAX_HEAD_WIDTH:
        return f"the width of a head, {head_width}, is not a multiple of {PANEL} up to {MAX_HEAD_WIDTH}"
    if config.glu_embed_count % 2:
        return f"the width of its gated unit, {config.glu_embed_count}, is odd"
    if widest > MAX_WIDTH:
        return f"its widest layer, {widest}, is above {MAX_WIDTH}"
    return None
