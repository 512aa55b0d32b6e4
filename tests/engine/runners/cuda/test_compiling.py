"""Triton's kernels are compiled for NVIDIA GPUs at Mega's sizes; that needs no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed; it exists for Linux")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from engine.runners.cuda import compiling  # noqa: E402
from engine.runners.cuda.kernels.attention import image_attention_kernel, text_attention_kernel  # noqa: E402
from engine.runners.cuda.kernels.drawing import draw_kernel  # noqa: E402
from engine.runners.cuda.kernels.group_norm import group_norm_kernel, group_sums_kernel  # noqa: E402
from engine.runners.cuda.kernels.norms import add_norm_kernel, embed_kernel, gated_norm_kernel  # noqa: E402
from engine.runners.cuda.kernels.products import product_kernel  # noqa: E402
from engine.weights.models import MODELS  # noqa: E402

LEAST_SHARED_MEMORY = 99 * 2**10  # of the GPUs of compute capability 8.0 and more: GeForce 30 and 40
UNKNOWN = ("R", "H", "idle")  # numbers that need not be multiples of 16

# A kernel, the types of its arguments (h and f: pointers to float16 and float32, d: float64, i: int32; N and E: a number, an
# epsilon), its compiled sizes, and its warps.
KERNELS: Sequence[tuple[Any, str, dict[str, Any], int]] = [
    *(
        (product_kernel, f"hh{result}NNN", {"ROWS": rows, "COLUMNS": columns, "DEPTH": 256, "STAGES": 3}, 4)
        for rows in (16, 32)
        for columns, result in ((16, "h"), (32, "h"), (64, "f"))
    ),
    (product_kernel, "fffNNN", {"ROWS": 32, "COLUMNS": 64, "DEPTH": 64, "STAGES": 3}, 4),
    (image_attention_kernel, "hhhhiiNN", {"SCALE": 0.125, "D": 64, "LENGTH": 256, "BLOCK": 128, "STAGES": 2}, 4),
    (text_attention_kernel, "hhhhiiNN", {"SCALE": 0.125, "D": 64, "LENGTH": 64, "BLOCK": 16, "STAGES": 1}, 1),
    (embed_kernel, "iiihhhhhhfhNE", {"BLOCK": 2048}, 16),
    *((add_norm_kernel, "fhhhhhhNE", {"IS_NORMED": is_normed, "BLOCK": 2048}, 16) for is_normed in (True, False)),
    (gated_norm_kernel, "hhhhNNE", {"BLOCK": 4096}, 16),
    (draw_kernel, "fiiidffiiidiNNN", {"BLOCK": 2**14, "LENGTH": 256}, 16),
    (group_sums_kernel, "hfN", {"C": 128, "CHUNKS": 128, "BLOCK": 32}, 4),
    (group_norm_kernel, "hfhhhNE", {"C": 128, "CHUNKS": 128, "BLOCK": 32, "HAS_SILU": True}, 4),
]
TYPES = {"h": "*fp16", "f": "*fp32", "d": "*fp64", "i": "*i32", "N": "i32", "E": "fp32"}


@pytest.mark.parametrize("capability", [90])  # 8.0, 8.9, 10.0 and 12.0 were tried by hand
def test_all_kernels_are_compiled_and_fit(capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for kernel, arguments, sizes, warps in KERNELS:
        names = [name for name in kernel.arg_names if name not in sizes]
        types = {name: TYPES[letter] for name, letter in zip(names, arguments, strict=True)}
        multiples = [name for name, kind in types.items() if kind[0] == "*" or (kind == "i32" and name not in UNKNOWN)]
        source = ASTSource(
            kernel,
            types | dict.fromkeys(sizes, "constexpr"),
            {(kernel.arg_names.index(name),): size for name, size in sizes.items()},
            {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in multiples},
        )
        options = {"num_warps": warps, "enable_fp_fusion": kernel is not draw_kernel}
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert compiled.metadata.shared <= LEAST_SHARED_MEMORY, f"{kernel} {sizes}"
        is_tensor_core = "mma.sync" in compiled.asm["ptx"]
        assert is_tensor_core == (kernel is product_kernel and arguments[0] == "h")


def test_a_start_goes_on_where_kernels_can_not_be_compiled_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> object:
        raise ValueError("a model of odd sizes")

    sizes = MODELS["mini"].sizes
    assert sizes is not None
    loaded = []
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "step_kernels", fail)
        with compiling.compiling(sizes, torch.float16, torch.device("cpu"), 1):
            loaded.append(1)
    with compiling.compiling(sizes, torch.float16, torch.device("cuda"), 1):  # there is none
        loaded.append(2)
    assert loaded == [1, 2]
