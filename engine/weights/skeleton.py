"""A model's modules without memory for their weights: built in milliseconds on torch's meta device, to be filled or inspected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from engine.upstream.modules import DalleBartDecoder, DalleBartEncoder
from engine.weights.config import ModelConfig

# No file has the index tensors, so they are computed here. On the meta device torch would also import its compiler to stack
# them, which takes a second at every start.
_INDICES_DEVICE = "cpu"


@contextmanager
def without_weights() -> Iterator[None]:
    """Build modules inside the block without memory and without values."""
    with torch.device("meta"), _WithoutInitialization():
        yield


class _WithoutInitialization(TorchFunctionMode):
    """A mode that skips the random initialization of embeddings, for which torch would import its compiler too."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        return named["tensor"] if function is nn.init.normal_ else function(*args, **named)


def build_encoder(config: ModelConfig) -> DalleBartEncoder:
    """Build min-dalle's encoder at a model's sizes, for any number of prompts."""
    encoder = DalleBartEncoder(
        layer_count=config.encoder_layer_count,
        text_vocab_count=config.text_vocab_count,
        text_token_count=config.text_token_count,
        **_sizes(config),
    )
    encoder.pose_tokens = encoder.pose_tokens[:1]  # [1, 64]: min-dalle has two rows, for one prompt and the empty prompt
    return encoder


def build_decoder(config: ModelConfig) -> DalleBartDecoder:
    """Build min-dalle's decoder at a model's sizes."""
    return DalleBartDecoder(layer_count=config.decoder_layer_count, image_vocab_count=config.image_vocab_count, **_sizes(config))


def _sizes(config: ModelConfig) -> dict[str, Any]:
    return {
        "embed_count": config.embed_count,
        "attention_head_count": config.attention_head_count,
        "glu_embed_count": config.glu_embed_count,
        "device": _INDICES_DEVICE,
    }
