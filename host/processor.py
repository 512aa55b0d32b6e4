"""The processor's features, by Linux's names for them."""

from __future__ import annotations

import platform
import re
from pathlib import Path

_CPU = Path("/proc/cpuinfo")
# Of hundreds of flags, those that choose between kernels, and so decide how numbers are rounded.
_FEATURES = re.compile(r"avx\w*|fma|f16c|amx\w*|sve\w*|asimd\w*|bf16|i8mm")


def processor_flags(cpu: Path = _CPU) -> frozenset[str]:
    """Return all features of the processor; none where the system is not Linux."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", _read(cpu), re.MULTILINE)
    return frozenset(found[1].split() if found else [])


def processor(cpu: Path = _CPU, gpus: Path = Path("/proc/driver/nvidia/gpus")) -> str:
    """Return the architecture, the vector features and the NVIDIA GPUs of this machine, as one line."""
    features = sorted(flag for flag in processor_flags(cpu) if _FEATURES.fullmatch(flag))
    models = [re.search(r"^Model:\s*(.*)$", _read(path), re.MULTILINE) for path in sorted(gpus.glob("*/information"))]
    return " ".join([platform.machine() or "unknown", *features, *(model[1] for model in models if model)])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
