"""The processor's features that decide how numbers are rounded."""

from __future__ import annotations

import platform
import re
from pathlib import Path

# Of hundreds of flags, those that choose between kernels.
_FEATURES = re.compile(r"avx\w*|fma|f16c|amx\w*|sve\w*|asimd\w*|bf16|i8mm")


def processor(cpu: Path = Path("/proc/cpuinfo"), gpus: Path = Path("/proc/driver/nvidia/gpus")) -> str:
    """Return the architecture, the vector features and the NVIDIA GPUs of this machine, as one line."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", _read(cpu), re.MULTILINE)
    features = sorted(flag for flag in (found[1].split() if found else []) if _FEATURES.fullmatch(flag))
    models = [re.search(r"^Model:\s*(.*)$", _read(path), re.MULTILINE) for path in sorted(gpus.glob("*/information"))]
    return " ".join([platform.machine() or "unknown", *features, *(model[1] for model in models if model)])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
