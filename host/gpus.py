"""Whether this machine may have a GPU, as far as that can be seen without torch, which takes a second to import."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_ROCM = Path("/dev/kfd")  # the device file of AMD's driver
_CUDA = "libcuda.so.1"  # comes with NVIDIA's driver; torch loads it by this name, too


def may_have_gpu() -> bool:
    """Return False only where torch can't find a GPU of NVIDIA's or AMD's: on a Mac, or on Linux without a driver for one."""
    if sys.platform == "darwin":
        return False
    return sys.platform != "linux" or _ROCM.exists() or _has_cuda_driver()


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL(_CUDA)
    except OSError:
        return False
    return True
