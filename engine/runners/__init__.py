"""Computing a model's tensors: two protocols, four implementations, and the choice among them.

    encode ─> admit ─> draw, draw, ... (rearrange when images leave) ─> detokenize

A runner knows slots, not requests: image i of the running batch is in slot i, and `rearrange` selects the slots that stay.
torch, native and openvino remember no tokens; `SamplingRunner` does. cuda keeps all of an image on the GPU.

runner        the protocols: `Runner`, which draws tokens, and `LogitsRunner`
sampling      a `Runner` around a `LogitsRunner`; drawing in numpy
choice        finds a model, chooses a runner and loads it; torch_loading those that need torch
quantization  int8 and int4, as the CPU's runners compute with
"""

from engine.runners.choice import default_cache, load_runner, logits_runner_on
from engine.runners.runner import LogitsRunner, Runner
from engine.runners.sampling import SamplingRunner

__all__ = ["LogitsRunner", "Runner", "SamplingRunner", "default_cache", "load_runner", "logits_runner_on"]
