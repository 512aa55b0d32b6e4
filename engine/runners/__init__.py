"""How tensors are computed: a protocol, what implements it, and the choice among them.

    encode ─> admit ─> step, step, ... (rearrange when images leave) ─> detokenize

A runner knows rows, not requests: image i of the running batch is row i, and `rearrange` says which rows stay.
"""

from engine.runners.choice import default_cache, load_runner, runner_on
from engine.runners.runner import Runner

__all__ = ["Runner", "default_cache", "load_runner", "runner_on"]
