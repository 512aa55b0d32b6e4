"""The model table, and the sizes of a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.request import SamplingSettings


@dataclass(frozen=True)
class DetokenizerConfig:
    """Hold the sizes of the VQGAN detokenizer.

    `None` in place of this means min-dalle's own `VQGanDetokenizer`, whose sizes are fixed.
    Widths are given as log2, as min-dalle's blocks take them.
    """

    embed_count: int
    log2_widths: tuple[int, ...]  # coarse (16 x 16) to fine (256 x 256): five


@dataclass(frozen=True)
class ModelConfig:
    """Hold the sizes of one model, and its sampling defaults."""

    name: str
    embed_count: int
    attention_head_count: int
    glu_embed_count: int
    encoder_layer_count: int
    decoder_layer_count: int
    text_vocab_count: int
    image_vocab_count: int  # the embedding and lm_head have one row more
    decoder_start_token_id: int
    text_token_count: int = 64
    detokenizer: DetokenizerConfig | None = None
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
