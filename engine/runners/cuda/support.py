"""What the CUDA runner needs: of the device, of the system, and of a model."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from engine.errors import InvalidRequest
from engine.weights.config import ModelConfig
from engine.weights.models import ModelSpec

LEAST_CAPABILITY = (8, 0)  # Ampere: tensor cores for 16-bit floats of both kinds
LEAST_HEAD_WIDTH = 16
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Unproven(Exception):
    """The CUDA runner does not compute here what the torch runner does, or not at all; the message says how."""


def missing_on(device: torch.device) -> str | None:
    """Return what is missing to compute on a device, in a few words; None if nothing is."""
    if device.type != "cuda":
        return f"it needs an NVIDIA GPU, and the device is {device.type}"
    if torch.version.hip is not None:
        return "it needs an NVIDIA GPU, and this torch is for AMD's"
    if not torch.cuda.is_available():
        return "torch sees no NVIDIA GPU"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        return "{} has compute capability {}.{}, and 8.0 is the least".format(name, *capability)
    if find_spec("triton") is None:
        return "Triton is not installed: on Linux torch's CUDA build brings it, on Windows `pip install triton-windows` does"
    return None


def unsupported_reason(config: ModelConfig) -> str | None:
    """Return why a model's sizes are not supported; None if they are."""
    width = config.embed_count // config.attention_head_count
    if width < LEAST_HEAD_WIDTH or width & (width - 1):
        return f"its heads are {width} wide, which is not a power of two from {LEAST_HEAD_WIDTH}"
    return None


def choose_cuda_dtype(precision: str, spec: ModelSpec) -> torch.dtype:
    """Choose the type to compute in; `auto` is the one that the weights are published in. Raises InvalidRequest."""
    if precision == "auto":  # Mega_full is what one asks for to have Mega in float32
        return torch.float32 if spec.name == "mega_full" else torch.float16
    if precision not in DTYPES:
        raise InvalidRequest("precision", f"cuda does not compute in {precision!r}; take auto, {', '.join(DTYPES)}")
    return DTYPES[precision]
