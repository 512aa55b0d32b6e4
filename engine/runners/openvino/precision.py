"""How OpenVINO keeps and multiplies numbers: the table of precisions, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import openvino as ov

from engine.config import ModelSpec
from engine.errors import InvalidRequest


@dataclass(frozen=True)
class Precision:
    """Hold one precision: what the weights are kept in, and how the graphs are compiled."""

    name: str
    weights: Literal["float32", "bfloat16", "int8"]
    decoding: dict[str, Any]  # OpenVINO's settings for the encoder and the decoder
    detokenizing: dict[str, Any]
    least_rows: int  # rows that a step is padded to, so that one image takes the same kernels as many


# Activations are rounded to int8 in groups of this many, each with a scale of its own: 128 was the fastest of 32 to 1,024 here.
_GROUP = 128
_BF16 = {"INFERENCE_PRECISION_HINT": "bf16"}
_F32 = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}

PRECISIONS: dict[str, Precision] = {
    "float32": Precision("float32", "float32", {**_F32, "KV_CACHE_PRECISION": "f32"}, _F32, least_rows=2),
    # One image alone, two rows, would take another kernel than two, with other rounding.
    "bfloat16": Precision("bfloat16", "bfloat16", {**_BF16, "KV_CACHE_PRECISION": "bf16"}, _BF16, least_rows=4),
    "int8": Precision(
        "int8",
        "int8",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP,
            "KV_CACHE_PRECISION": "u8",
            # One scale a token. A scale a channel, the default, rounds all of a block's keys again for each that is added.
            "KEY_CACHE_QUANT_MODE": "BY_TOKEN",
        },
        _BF16,
        least_rows=2,
    ),
}


def choose_precision(name: str, spec: ModelSpec) -> Precision:
    """Choose a precision for a model on this CPU.

    `auto` takes int8 for Mini and Mega, whose time is the reading of weights, and float32 for Tiny, which gains nothing.
    Raises InvalidRequest.
    """
    if name == "auto":
        name = "float32" if spec.sizes is None else "int8"
    if name not in PRECISIONS:
        raise InvalidRequest("precision", f"precision {name!r} is not to be had on a CPU; take auto, {', '.join(PRECISIONS)}")
    chosen = PRECISIONS[name]
    if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return chosen
    if name == "bfloat16":
        raise InvalidRequest("precision", "this CPU has no bfloat16; take auto, float32 or int8")
    return Precision(chosen.name, chosen.weights, chosen.decoding, _F32, chosen.least_rows)
