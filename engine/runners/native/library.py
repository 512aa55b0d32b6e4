"""decode.c, compiled once on the machine that it runs on, and kept beside the converted models."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

from engine.runners.native import layout
from host.unfinished import sweep_unfinished, unfinished_folder

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "decode.c"
_INSTRUCTION_SETS = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "fma", "f16c")  # as Linux names them
_CONSTANTS = ("GROUP", "PIECE", "MAX_LENGTH", "MAX_HEAD_WIDTH", "MAX_WIDTH")  # of layout.py
_FLAGS = ["-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread"]
_FLAGS += [f"-m{name.replace('_', '')}" for name in _INSTRUCTION_SETS]
_FLAGS += [f"-D{name}={getattr(layout, name)}" for name in _CONSTANTS]
_COMPILERS = ("cc", "gcc", "clang")
_COMPILE_SECONDS = 120.0  # at most; it usually takes three

_log = logging.getLogger(__name__)


class NativeUnavailable(Exception):
    """The reason why decode.c can't run on this machine."""


def load_library(cache_dir: Path) -> ctypes.CDLL:
    """Load the compiled decode.c from `cache_dir`; compile it first if it is missing or damaged. Raises NativeUnavailable."""
    missing = missing_instructions()
    if missing:
        raise NativeUnavailable(f"this CPU or system lacks {', '.join(missing)}")
    sources = b"".join(path.read_bytes() for path in sorted(_FOLDER.glob("*.[ch]")))
    path = cache_dir / f"decode-{hashlib.sha256(sources + repr(_FLAGS).encode()).hexdigest()[:16]}.so"
    try:
        if not _is_intact(path):
            _compile(path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"{path} can't be compiled or loaded: {error.strerror or error}") from error


def _is_intact(path: Path) -> bool:
    """Return whether a library has the checksum beside it: loading a truncated one would end the process."""
    try:
        return path.with_suffix(".sha256").read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError):
        return False


def missing_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return the instruction sets that decode.c needs and this machine lacks; systems other than Linux count as lacking all."""
    if platform.machine() != "x86_64" or not cpuinfo.exists():
        return ["AVX-512"]
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return [name for name in _INSTRUCTION_SETS if name not in flags.split()]


def _compile(path: Path) -> None:
    """Compile decode.c to `path`, never leaving a partial file there, and remove older versions. Raises NativeUnavailable."""
    compiler = find_compiler()
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_unfinished(path.parent)
    with unfinished_folder(path.parent) as folder:
        compiled = folder / path.name
        command = [*compiler, *_FLAGS, "-o", str(compiled), str(_SOURCE), "-lm"]
        _log.info("compiling the decoder: %s", shlex.join(command))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise NativeUnavailable(f"{compiler[0]} took longer than {_COMPILE_SECONDS:.0f} s") from error
        if done.returncode:
            reason = next(
                (line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip() or "no reason given"
            )
            raise NativeUnavailable(f"{compiler[0]} failed: {reason}")
        checksum = hashlib.sha256(compiled.read_bytes()).hexdigest()
        compiled.replace(path)
        path.with_suffix(".sha256").write_text(checksum)
    for older in path.parent.glob("decode-*.*"):
        if older.stem != path.stem:
            older.unlink(missing_ok=True)


def find_compiler() -> list[str]:
    """Find a C compiler: the environment variable CC, or a usual name. Returns its command; raises NativeUnavailable."""
    names = [*filter(None, [os.environ.get("CC")]), *_COMPILERS]
    for name in names:
        try:
            words = shlex.split(name)
        except ValueError as error:
            raise NativeUnavailable(f"CC is {name!r}, which is not a command ({error})") from error
        if words and shutil.which(words[0]):
            return words
    raise NativeUnavailable(f"there is no C compiler (looked for {', '.join(names)})")
