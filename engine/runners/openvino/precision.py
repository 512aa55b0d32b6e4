"""How OpenVINO keeps and multiplies numbers: the table of precisions, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import openvino as ov

from engine.errors import InvalidRequest
from engine.runners.rounding import WeightKind
from engine.weights.models import ModelSpec


@dataclass(frozen=True)
class Precision:
    """Hold one precision: what the weights are kept in, and how the graphs are compiled."""

    name: str
    encoder_weights: WeightKind
    decoder_weights: WeightKind
    decoding: dict[str, Any]  # OpenVINO's settings for the encoder and the decoder
    rounds_pixels: bool  # whether the detokenizer convolves numbers of 8 bits
    least_rows: int  # rows that a step is padded to, so that one image takes the same kernels as many


_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "KV_CACHE_PRECISION": "f32"}
_BFLOAT16 = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "bf16"}
_INT8 = {
    "INFERENCE_PRECISION_HINT": "f32",
    # Activations are rounded to int8 in groups of this many, each with a scale of its own: the fastest of 32 to 1,024 here.
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128,
    "KV_CACHE_PRECISION": "u8",
    # One scale a token. A scale a channel, the default, rounds all of a block's keys again for each that is added.
    "KEY_CACHE_QUANT_MODE": "BY_TOKEN",
}

PRECISIONS: dict[str, Precision] = {
    each.name: each
    for each in (
        Precision("float32", "float32", "float32", _FLOAT32, False, least_rows=2),
        # One image alone, two rows, would take another kernel than two, with other rounding.
        Precision("bfloat16", "bfloat16", "bfloat16", _BFLOAT16, False, least_rows=4),
        Precision("int8", "int8", "int8", _INT8, True, least_rows=2),
        # The encoder runs once a prompt: it would gain nothing.
        Precision("int4", "int8", "int4", _INT8, True, least_rows=2),
    )
}


def choose_precision(name: str, spec: ModelSpec) -> Precision:
    """Choose a precision for a model on this CPU.

    `auto` takes int4 for Mini and Mega, whose time is the reading of weights. Tiny, all in the caches, would gain no more by it
    than by int8, and follow fewer prompts.
    Raises InvalidRequest.
    """
    if name == "auto":
        name = "int8" if spec.sizes is None else "int4"
    if name not in PRECISIONS:
        raise InvalidRequest("precision", f"precision {name!r} is not to be had on a CPU; take auto, {', '.join(PRECISIONS)}")
    if name == "bfloat16" and not _has_bfloat16():
        raise InvalidRequest("precision", "this CPU has no bfloat16; take auto, float32, int8 or int4")
    return PRECISIONS[name]


def _has_bfloat16() -> bool:
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
