"""The instruction sets that decode.c can be compiled for, and what the CPU has of them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consts import INSTRUCTION_SET_VARIABLE
from host.processor import processor_flags


@dataclass(frozen=True)
class InstructionSet:
    """An instruction set: what the CPU must have, by torch's names, and the compiler's flags."""

    name: str
    title: str
    needs: tuple[str, ...]
    flags: tuple[str, ...]


_AVX2 = ("avx2", "fma3", "f16c")
_AVX2_FLAGS = ("-mavx2", "-mfma", "-mf16c")

# The faster before the slower. All of them give the same bits.
INSTRUCTION_SETS = (
    InstructionSet(
        "avx512",
        "AVX-512 with VNNI",
        ("avx512_f", "avx512_bw", "avx512_vl", "avx512_dq", "avx512_vnni", "fma3", "f16c"),
        ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma", "-mf16c"),
    ),
    InstructionSet("avxvnni", "AVX2 with VNNI", (*_AVX2, "avx_vnni"), (*_AVX2_FLAGS, "-mavxvnni")),
    InstructionSet("avx2", "AVX2", _AVX2, _AVX2_FLAGS),
    InstructionSet("neon", "NEON with dot products", ("dot",), ("-mcpu=cortex-a76",)),
)


# torch's name -> Linux's, where they differ.
_LINUX_NAMES = {
    "fma3": "fma",
    "avx512_f": "avx512f",
    "avx512_bw": "avx512bw",
    "avx512_vl": "avx512vl",
    "avx512_dq": "avx512dq",
    "dot": "asimddp",
}


def cpu_capabilities() -> Mapping[str, Any]:
    """Return what this machine's CPU has, by torch's names, on every system; of its instructions those in `INSTRUCTION_SETS`."""
    if flags := processor_flags():
        needs = {need for each in INSTRUCTION_SETS for need in each.needs}
        return {"architecture": platform.machine(), **{need: _LINUX_NAMES.get(need, need) in flags for need in needs}}
    import torch  # late, as Linux, where most servers run, says it without: importing torch takes longer than all else of a start

    return torch.cpu.get_capabilities()


def usable_sets() -> list[InstructionSet]:
    """Return the sets that this CPU has, the fastest first; only the one that the environment names, if it names one."""
    forced, has = os.environ.get(INSTRUCTION_SET_VARIABLE), cpu_capabilities()
    return [
        each for each in INSTRUCTION_SETS if all(has.get(need) for need in each.needs) and (not forced or each.name == forced)
    ]


def missing_instructions() -> str | None:
    """Return what decode.c needs and this CPU lacks, or None if it lacks nothing."""
    if usable_sets():
        return None
    forced, has = os.environ.get(INSTRUCTION_SET_VARIABLE), cpu_capabilities()
    if forced:
        return f"{forced}, which {INSTRUCTION_SET_VARIABLE} names"
    if has.get("architecture") == "x86_64":
        return ", ".join(need.upper() for need in _AVX2 if not has.get(need))
    return "x86's AVX2 or ARM's dot products"
