"""A file of named tensors: read safely, and copied into a module."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.errors import CheckpointError

_SCALE = ".scale"  # the end of the name of an 8-bit matrix's scales

# These norms have no scale in the original model, so the published files have a bias but no weight for them.
_NORMS_WITHOUT_SCALE = ("pre_self_attn_layer_norm", "pre_encoder_attn_layer_norm", "glu.ln0", "glu.ln1", "final_ln")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a `.safetensors` or `.pt` file, memory-mapped if its format allows it.

    Only tensors are unpickled. Raises CheckpointError, which names the file and the fault.
    """
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from error
    if fault := _fault_at_start(start):
        raise CheckpointError(f"{path} {fault}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is truncated or damaged") from error
    return _unpickle(path, start)


def _fault_at_start(start: bytes) -> str | None:
    """Return why a file can't be a weights file, judged by its first bytes; None if it can."""
    text = start.lstrip().lower()
    if not start:
        return "is empty"
    if text.startswith(b"<"):
        return "is a web page (HTML), not weights"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights it points to"
    return None


def _unpickle(path: Path, start: bytes) -> dict[str, Tensor]:
    is_zip = zipfile.is_zipfile(path)
    if not is_zip and not start.startswith(b"\x80"):  # \x80 starts a pickle, the format of torch.save before zip files
        raise CheckpointError(f"{path} is {'truncated' if start.startswith(b'PK') else 'not a weights file'}")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        if "weights only" in str(error).lower():
            raise CheckpointError(f"{path} contains pickled objects other than tensors, which could run code") from error
        raise CheckpointError(f"{path} is truncated or damaged") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        raise CheckpointError(f"{path} is truncated or damaged") from error
    if not isinstance(tensors, dict) or not all(isinstance(name, str) and isinstance(t, Tensor) for name, t in tensors.items()):
        raise CheckpointError(f"{path} does not contain named tensors")
    return dict(tensors)


def fill_module(module: nn.Module, tensors: dict[str, Tensor], dtype: torch.dtype | None, path: Path) -> None:
    """Move tensors into a module that was built on the meta device.

    A matrix may be in 8 bits, int8 [rows, ...], beside a tensor `<name>.scale` of floats [rows]: it becomes their product,
    computed in float32. Each tensor is copied to contiguous storage of its own: the files have transposed views of stacked
    storages, which would stay in memory whole. An absent norm scale becomes ones.

    Args:
        module: The module.
        tensors: The tensors by name; emptied.
        dtype: The new tensors' type; None keeps each tensor's type, and makes float32 of 8 bits.
        path: The file that the tensors come from, for errors.

    Raises CheckpointError, which names the first tensor that is missing, unexpected or of a wrong shape.
    """
    expected = module.state_dict()
    scales = {name: tensors.pop(f"{name}{_SCALE}") for name in list(tensors) if f"{name}{_SCALE}" in tensors}
    missing = [name for name in expected if name not in tensors and not is_absent_scale(name)]
    unexpected = [name for name in tensors if name not in expected]
    if missing or unexpected:
        what = f"lacks the tensor {missing[0]}" if missing else f"has an unexpected tensor {unexpected[0]}"
        counts = f"{len(missing)} missing, {len(unexpected)} unexpected"
        raise CheckpointError(f"{path} {what} ({counts}): the file is another model's")
    for name, tensor in tensors.items():
        scale = scales.get(name)
        is_number = tensor.is_floating_point() if scale is None else tensor.dtype == torch.int8
        if tensor.shape != expected[name].shape or not is_number:
            found, wanted = f"{tuple(tensor.shape)} of {tensor.dtype}", f"{tuple(expected[name].shape)} of floats"
            raise CheckpointError(f"{path}: tensor {name} is {found}, not {wanted}: the file is another model's")
        if scale is not None and (scale.shape != tensor.shape[:1] or not scale.is_floating_point()):
            raise CheckpointError(f"{path}: tensor {name}{_SCALE} does not have a number for each row: the file is damaged")
    copies: dict[str, Tensor] = {}
    for name, empty in expected.items():
        read = tensors.pop(name, None)
        if read is not None and name in scales:
            read = widen(read, scales.pop(name))
        copies[name] = torch.ones(empty.shape, dtype=dtype or (torch.float32 if read is None else read.dtype))
        if read is not None:
            copies[name].copy_(read)
    module.load_state_dict(copies, assign=True)


def widen(whole: Tensor, scale: Tensor) -> Tensor:
    """Return the float32 matrix that 8 bits stand for: int8 [rows, ...] times a scale [rows]."""
    return whole.float() * scale.float().view(-1, *[1] * (whole.ndim - 1))


def is_absent_scale(name: str) -> bool:
    """Whether the published files lack this tensor, the scale of a norm that has none."""
    layer, _, leaf = name.rpartition(".")
    return leaf == "weight" and any(layer == norm or layer.endswith(f".{norm}") for norm in _NORMS_WITHOUT_SCALE)
