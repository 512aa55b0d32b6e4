"""The decoder's sources for other systems, compiled by Zig, which brings the headers of all of them."""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine.runners.native.instructions import INSTRUCTION_SETS
from engine.runners.native.library import ZIG, compile_flags, load_library

SOURCE = Path(load_library.__code__.co_filename).with_name("decode.c")
SETS = {each.name: each for each in INSTRUCTION_SETS}


# Not optimised, to be quick, and so without the checks that Zig then adds. All instruction sets, with Clang.
@pytest.mark.skipif(find_spec("ziglang") is None, reason="the Python package ziglang is missing; make installs it for tests")
@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("aarch64-macos", "neon"),
        ("aarch64-linux-gnu", "neon"),
        ("x86_64-windows-gnu", "avx2"),
        ("x86_64-macos", "avx512"),
        ("x86_64-linux-musl", "avxvnni"),
    ],
)
def test_the_sources_compile_for_other_systems(target: str, name: str, tmp_path: Path) -> None:
    flags = [flag for flag in compile_flags(SETS[name]) if flag not in ("-O2", "-shared", "-fPIC", "-pthread")]
    flags = [flag.replace("cortex-a76", "cortex_a76") for flag in flags]
    command = [*ZIG, "-target", target, "-O0", "-fno-sanitize=undefined", "-Werror", *flags, "-c", str(SOURCE), "-o", "decode.o"]
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(tmp_path), "ZIG_LOCAL_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | caches, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "decode.o").stat().st_size > 10_000
