"""One file of named tensors: read without trusting it, and poured into a module."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.errors import CheckpointError

# The original model has no scale in these norms, so the published files hold a bias and no weight for them.
SCALE_LESS_NORMS = ("pre_self_attn_layer_norm", "pre_encoder_attn_layer_norm", "glu.ln0", "glu.ln1", "final_ln")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a `.safetensors` file or a `.pt` one, mapped into memory where its format allows.

    Nothing but tensors is ever unpickled. Raises CheckpointError, naming the file and what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from error
    if fault := _impostor(start):
        raise CheckpointError(f"{path} {fault}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is truncated or damaged") from error
    return _unpickle(path, start)


def _impostor(start: bytes) -> str | None:
    """Tell what other things arrive in place of weights, by how the file begins."""
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
    if not is_zip and not start.startswith(b"\x80"):  # \x80: a pickle, as torch.save wrote before it wrote zip files
        raise CheckpointError(f"{path} is {'truncated' if start.startswith(b'PK') else 'not a file of weights'}")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        if "weights only" in str(error).lower():
            raise CheckpointError(f"{path} is a pickle that asks for more than tensors, so it could run code") from error
        raise CheckpointError(f"{path} is truncated or damaged") from error
    except MemoryError:
        raise
    except Exception as error:  # a broken pickle can make the unpickler raise anything
        raise CheckpointError(f"{path} is truncated or damaged") from error
    if not isinstance(tensors, dict) or not all(isinstance(name, str) and isinstance(t, Tensor) for name, t in tensors.items()):
        raise CheckpointError(f"{path} does not hold named tensors")
    return dict(tensors)


def fill_module(module: nn.Module, tensors: dict[str, Tensor], dtype: torch.dtype | None, path: Path) -> None:
    """Give a module that was built on the meta device the tensors read from `path`, and take them out of `tensors`.

    Each becomes a contiguous tensor of `dtype`, or of its own type where that is None, with storage of its own: the files hold
    transposed views of stacked storages, which would stay in memory whole. An absent norm scale becomes ones. Raises
    CheckpointError, naming the first tensor that is missing, unexpected or of a wrong shape.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors and not _is_absent_scale(name)]
    unexpected = [name for name in tensors if name not in expected]
    if missing or unexpected:
        what = f"lacks the tensor {missing[0]}" if missing else f"has an unexpected tensor {unexpected[0]}"
        counts = f"{len(missing)} missing, {len(unexpected)} unexpected"
        raise CheckpointError(f"{path} {what} ({counts}): the file is another model's")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or not tensor.is_floating_point():
            found, wanted = f"{tuple(tensor.shape)} of {tensor.dtype}", f"{tuple(expected[name].shape)} of floats"
            raise CheckpointError(f"{path}: tensor {name} is {found}, not {wanted}: the file is another model's")
    own: dict[str, Tensor] = {}
    for name, place in expected.items():
        read = tensors.pop(name, None)
        own[name] = torch.ones(place.shape, dtype=dtype or (torch.float32 if read is None else read.dtype))
        if read is not None:
            own[name].copy_(read)
    module.load_state_dict(own, assign=True)


def _is_absent_scale(name: str) -> bool:
    layer, _, leaf = name.rpartition(".")
    return leaf == "weight" and any(layer == norm or layer.endswith(f".{norm}") for norm in SCALE_LESS_NORMS)
