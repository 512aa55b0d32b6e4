"""A model's modules without memory for their weights: built in milliseconds on torch's meta device, to be filled or looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from engine.upstream import DalleBartDecoder, DalleBartEncoder
from engine.weights.config import ModelConfig

# The index tensors are in no file, so they are made as they will be used. On the meta device torch would also import its compiler
# to put them together: a second of every start.
_INDICES_DEVICE = "cpu"


@contextmanager
def without_weights() -> Iterator[None]:
    """Build what is built inside without memory and without values."""
    with torch.device("meta"), _NoFirstValues():
        yield


class _NoFirstValues(TorchFunctionMode):
    """Leave out the random first values of embeddings, for which torch would import its compiler too."""

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
    """Build an encoder of a model's sizes that takes any number of prompts."""
    encoder = DalleBartEncoder(
        layer_count=config.encoder_layer_count,
        embed_count=config.embed_count,
        attention_head_count=config.attention_head_count,
        text_vocab_count=config.text_vocab_count,
        text_token_count=config.text_token_count,
        glu_embed_count=config.glu_embed_count,
        device=_INDICES_DEVICE,
    )
    encoder.pose_tokens = encoder.pose_tokens[:1]  # [1, 64]: min-dalle's two rows are of one prompt and the empty one
    return encoder


def build_decoder(config: ModelConfig) -> DalleBartDecoder:
    """Build a decoder of a model's sizes."""
    return DalleBartDecoder(
        image_vocab_count=config.image_vocab_count,
        embed_count=config.embed_count,
        attention_head_count=config.attention_head_count,
        glu_embed_count=config.glu_embed_count,
        layer_count=config.decoder_layer_count,
        device=_INDICES_DEVICE,
    )
