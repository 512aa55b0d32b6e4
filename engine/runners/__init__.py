"""How tensors are computed: one protocol, and the one place where a runner is chosen.

    encode ─> admit ─> step, step, ... (rearrange when images leave) ─> detokenize

A runner knows rows, not requests: image i of the running batch is row i, and `rearrange` says which rows stay.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import device as Device  # not as torch.device: in this package, torch is the module beside this one
from torch import set_num_threads

from engine.checkpoint import ModelFiles, find_model
from engine.config import model_spec
from engine.errors import InvalidRequest
from engine.runners.torch import TorchRunner, choose_device, choose_dtype
from engine.threads import usable_threads

KINDS = ("auto", "native", "openvino", "torch")


class Runner(Protocol):
    """Compute what the engine asks for; one thread at a time."""

    def encode(self, text_tokens: Sequence[int]) -> Any:
        """Encode a prompt once; return what `admit` takes for each of its images."""

    def admit(self, prompts: Sequence[Any]) -> None:
        """Append a row for each prompt given, at position 0."""

    def rearrange(self, order: Sequence[int]) -> None:
        """Make row `order[i]` the new row i; rows not named are free. Rows only move down: `order[i]` is never below i."""

    def reset(self) -> None:
        """Free every row and the memory for them; works after any other method has raised, too. Encoded prompts stay valid."""

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Decode one token a row, each at its own position: float32 logits [N, 2, V], unconditional and conditional.

        They are valid until the next step.
        """

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""


def load_runner(
    model: str,
    *,
    models_root: Path | None = None,
    device: str = "auto",
    runner: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    cache_dir: Path | None = None,
    progress: bool = False,
) -> tuple[ModelFiles, Runner]:
    """Find a model, choose what computes it, and load it there.

    `threads` 0 takes as many as this process may use; `cache_dir` is where compiled models are kept, by default in the user's
    cache folder. Raises InvalidRequest where a device, runner or precision is not to be had, CheckpointError as `find_model`.
    """
    chosen = choose_device(device)
    kind = choose_runner(runner, chosen)
    count = usable_threads(threads)
    spec = model_spec(model)
    find = partial(find_model, model, models_root=models_root, progress=progress)
    if kind == "torch":
        dtype = choose_dtype(precision, chosen, spec)  # before a download
        files = find()
        set_num_threads(count)
        return files, TorchRunner(files.load(dtype, progress=progress), chosen)
    # Imported here: where torch computes, openvino need not be there.
    from engine.runners.cpu import load_on_cpu

    folder = cache_dir or default_cache()
    return load_on_cpu(spec, find, precision, count, folder, runner=runner, progress=progress)


def choose_runner(asked: str, device: Device) -> str:
    """Choose what computes on a device, torch or openvino: `auto` takes openvino on an x86 CPU, else torch.

    Whether openvino's decoder or the native one decodes, `load_on_cpu` chooses. Raises InvalidRequest.
    """
    if asked not in KINDS:
        raise InvalidRequest("runner", f"runner {asked!r} is unknown; take {', '.join(KINDS)}")
    fits = device.type == "cpu" and platform.machine().lower() in {"x86_64", "amd64"}
    if asked in ("native", "openvino") and not fits:
        raise InvalidRequest("runner", f"{asked} computes on x86 CPUs only, not on {device.type}; take auto or torch")
    return "openvino" if fits and asked != "torch" else "torch"


def default_cache() -> Path:
    """Return the folder in which compiled models are kept: in the user's cache folder, as the system has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dalle-server"
