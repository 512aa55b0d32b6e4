"""A checkpoint's runner on a GPU, proven there."""

from __future__ import annotations

import torch

from engine.errors import first_line
from engine.memory import is_memory_exhausted
from engine.runners.cuda.products import MakeProduct
from engine.runners.cuda.proof import TOLERANCE, Proof
from engine.runners.cuda.runner import CudaRunner
from engine.runners.cuda.support import Unproven, unsupported_reason
from engine.runners.torch.runner import TorchRunner
from engine.weights.checkpoint import Checkpoint


def proven_runner(checkpoint: Checkpoint, device: torch.device, products: MakeProduct | None = None) -> CudaRunner:
    """Return the CUDA runner of a checkpoint, after a few steps beside the torch runner.

    The checkpoint's modules move to the device, and stay valid if this raises Unproven: where the model's sizes are not
    supported, the runner fails, or computes something else.
    """
    reason = unsupported_reason(checkpoint.config)
    if reason:
        raise Unproven(reason)
    names = checkpoint.tokenizer.token_from_subword
    proof = Proof.of(checkpoint.config, names["<s>"], names["</s>"])
    # First, so that torch's copies of the weights are freed before the slots need the memory.
    reference = proof.reference(TorchRunner(checkpoint, device))
    try:
        runner = CudaRunner(checkpoint, device, products)
        proof.check(runner, reference, TOLERANCE[checkpoint.decoder.lm_head.weight.dtype])
    except Unproven:
        raise
    except Exception as error:  # a kernel that can't be compiled or launched
        if is_memory_exhausted(error):
            raise
        raise Unproven(f"it fails: {first_line(error)}") from error
    return runner
