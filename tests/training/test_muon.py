"""Muon for many matrices at once, beside torch's own."""

from __future__ import annotations

import torch

from training.muon import Muon


def test_matrices_move_as_with_torchs_muon() -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in [(24, 24), (40, 24), (24, 24), (24, 40)]]
    theirs, ours = ([torch.nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    reference = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    muon = Muon(ours, lr=1e-2, weight_decay=0.01)
    for _ in range(4):
        for one, other in zip(theirs, ours, strict=True):
            one.grad = other.grad = torch.randn(one.shape, generator=generator)
        reference.step()
        muon.step()
    for matrix, one, other in zip(start, theirs, ours, strict=True):
        assert torch.allclose(one, other, atol=1e-5) and (one - matrix).abs().max() > 0.01
