"""Computing a model's tensors: a protocol, three implementations, and the choice among them.

    encode ─> admit ─> step, step, ... (rearrange when images leave) ─> detokenize

A runner knows slots, not requests: image i of the running batch is in slot i, and `rearrange` selects the slots that stay.
"""

from engine.runners.choice import default_cache, load_runner, runner_on
from engine.runners.runner import Runner

__all__ = ["Runner", "default_cache", "load_runner", "runner_on"]
