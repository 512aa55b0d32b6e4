"""min-dalle's classes, without the side effects of importing them.

`import min_dalle` disables gradients and sets torch's thread count to all of the host's cores, even those that the container may
not use. This module imports the classes and restores both. All modules that compute import this one first, so it also sets how
torch rounds.
"""

from __future__ import annotations

import os

import torch

# With this setting MKL on Intel CPUs adds in the same order for any number of rows, so that
# engine/runners/torch/batch_invariant.py need not split products. MKL reads it once, at its first product.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

_gradients, _threads = torch.is_grad_enabled(), torch.get_num_threads()
try:
    from min_dalle import MinDalle
    from min_dalle.models import DalleBartDecoder, DalleBartEncoder, VQGanDetokenizer
    from min_dalle.models.dalle_bart_decoder import DecoderLayer
    from min_dalle.models.dalle_bart_encoder import AttentionBase
    from min_dalle.models.vqgan_detokenizer import AttentionBlock, ResnetBlock, Upsample
finally:
    torch.set_grad_enabled(_gradients)
    torch.set_num_threads(_threads)

__all__ = [
    "AttentionBase",
    "AttentionBlock",
    "DalleBartDecoder",
    "DalleBartEncoder",
    "DecoderLayer",
    "MinDalle",
    "ResnetBlock",
    "Upsample",
    "VQGanDetokenizer",
]
