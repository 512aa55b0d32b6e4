"""Memory of the CUDA runner, from the shapes of what it allocates."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from engine.runners.cuda.slots import Slots
from engine.runners.cuda.weights import DecoderWeights
from engine.weights.models import MODELS
from engine.weights.skeleton import build_decoder, build_encoder, without_weights

GIB = 2**30
MEMORY = 8 * GIB
SLOTS = 16
# Of the card's memory, what this process does not allocate: CUDA's context, kernels, cuDNN's workspace.
CONTEXT = 0.5 * GIB


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Add up the memory of tensors; views have none of their own."""
    storages = {id(tensor.untyped_storage()): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def parameters(*modules: nn.Module) -> list[Tensor]:
    return [parameter for module in modules for parameter in module.parameters()]


def test_sixteen_slots_of_mega_fit_into_8_gib() -> None:
    pytest.importorskip("triton", reason="Triton is not installed; it exists for Linux")
    from engine.runners.cuda.decoder import Workspace
    from engine.upstream.modules import VQGanDetokenizer

    config, device = MODELS["mega"].sizes, torch.device("meta")
    assert config is not None
    with without_weights():
        encoder, decoder = (build(config).to(torch.float16) for build in (build_encoder, build_decoder))
        detokenizer = VQGanDetokenizer()
    before = bytes_of(parameters(decoder))
    weights = DecoderWeights(decoder, config, device)
    assert bytes_of(parameters(decoder)) <= before + 2**20, "nothing is in memory twice"
    slots = Slots(config, SLOTS, device, torch.float16)
    prompt = bytes_of([slots.text]) // (SLOTS + 1)
    parts = {
        "encoder and decoder": bytes_of(parameters(encoder, decoder)),
        "detokenizer, and its copy in 16 bits": bytes_of(parameters(detokenizer)) * 3 // 2,
        "slots": bytes_of(slots.tensors()),
        "a prompt and a negative one of 16 tokens for each image": SLOTS * prompt * 16 // config.text_token_count,
        "a step": bytes_of(vars(Workspace(weights, 2 * SLOTS)).values()),
        "a picture's features, ten tensors of the largest": 10 * 256 * 256 * 128 * 2,
    }
    assert 6.5 * GIB < sum(parts.values()) + CONTEXT < MEMORY, parts
    print({name: f"{size / GIB:.2f} GiB" for name, size in parts.items()})
