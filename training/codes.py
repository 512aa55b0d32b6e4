"""Finite scalar quantisation (Mentzer et al. 2023): a token is five digits, and no codebook has to be learned.

The encoder's five numbers at a place are rounded to 9, 7, 5, 5 and 5 levels; the digits together are one of 7,875 tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEVELS = (9, 7, 5, 5, 5)
TOKEN_COUNT = math.prod(LEVELS)
_HALF = [(levels - 1) / 2 for levels in LEVELS]
_BASIS = [math.prod(LEVELS[:index]) for index in range(len(LEVELS))]


def quantise(z: Tensor) -> tuple[Tensor, Tensor]:
    """Round what an encoder returns, [B, 5, H, W]: codes from -1 to 1, whose gradient passes, and tokens int64 [B, H, W]."""
    half, basis = (torch.tensor(each, device=z.device).view(1, -1, 1, 1) for each in (_HALF, _BASIS))
    bounded = torch.tanh(z.float()) * half * (1 + 1e-3)
    rounded = bounded + (bounded.round() - bounded).detach()
    digits = (rounded.detach().round() + half).long().clamp(min=0)
    return rounded / half, (digits * basis).sum(1)


def token_digits() -> Tensor:
    """Return each token's digits, int64 [5, TOKEN_COUNT]."""
    tokens = torch.arange(TOKEN_COUNT)
    return torch.stack([tokens // basis % levels for basis, levels in zip(_BASIS, LEVELS, strict=True)])


def token_codes() -> Tensor:
    """Return each token's code, float32 [TOKEN_COUNT, 5], -1 to 1."""
    return token_digits().T / torch.tensor(_HALF) - 1
