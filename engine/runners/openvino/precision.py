"""The precisions on a CPU: a table, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from engine.errors import InvalidRequest
from engine.runners.quantization import WeightKind
from engine.weights.models import ModelSpec


@dataclass(frozen=True)
class Precision:
    """A precision: the types of the weights, and the settings of the graphs."""

    name: str
    encoder_weights: WeightKind
    decoder_weights: WeightKind
    decoding: dict[str, Any]  # OpenVINO's settings for the encoder and the decoder graph
    quantizes_pixels: bool  # whether the detokenizer's convolutions are in int8
    min_rows: int  # a step is padded to this many rows, so that one image takes the same kernels as many


_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "KV_CACHE_PRECISION": "f32"}
_BFLOAT16 = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "bf16"}
_INT8 = {
    "INFERENCE_PRECISION_HINT": "f32",
    # Activations are quantized in groups of this size, each with its own scale: the fastest of 32 to 1,024.
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128,
    "KV_CACHE_PRECISION": "u8",
    # One scale for each token. The default, one for each channel, quantizes all keys of a block again when one is added.
    "KEY_CACHE_QUANT_MODE": "BY_TOKEN",
}

CPU_PRECISIONS: dict[str, Precision] = {
    each.name: each
    for each in (
        Precision("float32", "float32", "float32", _FLOAT32, False, min_rows=2),
        # One image alone, two rows, would take another kernel than two images, and round differently.
        Precision("bfloat16", "bfloat16", "bfloat16", _BFLOAT16, False, min_rows=4),
        Precision("int8", "int8", "int8", _INT8, True, min_rows=2),
        # In int4, the encoder, which runs once for each prompt, would gain nothing.
        Precision("int4", "int8", "int4", _INT8, True, min_rows=2),
    )
}


def choose_precision(name: str, spec: ModelSpec) -> Precision:
    """Choose a precision for a model on this CPU. Raises InvalidRequest.

    `auto` takes int4 for Mini and Mega, which spend their time reading weights. Tiny fits the caches: int4 would not be faster
    than int8, and would follow fewer prompts.
    """
    if name == "auto":
        name = "int8" if spec.sizes is None else "int4"
    if name not in CPU_PRECISIONS:
        raise InvalidRequest("precision", f"precision {name!r} is not available on a CPU; take auto, {', '.join(CPU_PRECISIONS)}")
    if name == "bfloat16" and not _has_bfloat16():
        raise InvalidRequest("precision", "this CPU has no bfloat16; take auto, float32, int8 or int4")
    return CPU_PRECISIONS[name]


def _has_bfloat16() -> bool:
    """Return whether OpenVINO computes in bfloat16 here. Without OpenVINO, the native decoder does, on any CPU."""
    if find_spec("openvino") is None:
        return True
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
