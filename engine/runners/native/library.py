"""decode.c, compiled once on the machine that it runs on, and kept beside the converted models."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from engine.runners.native import layout
from engine.runners.native.instructions import InstructionSet, missing_instructions, usable_sets
from host.turn import turn
from host.unfinished import sweep_unfinished, unfinished_folder

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "decode.c"
_CONSTANTS = ("GROUP", "PIECE", "MAX_LENGTH", "MAX_HEAD_WIDTH", "MAX_WIDTH")  # of layout.py
# A multiplication and an addition are fused where the code says so, not where the compiler likes: all sets give the same bits.
_FLAGS = ["-std=gnu11", "-O2", "-ffp-contract=off", "-shared"]
_FLAGS += [f"-D{name}={getattr(layout, name)}" for name in _CONSTANTS]
_FLAGS += [] if sys.platform == "win32" else ["-fPIC", "-pthread"]
_LIBRARIES = [] if sys.platform == "win32" else ["-lm"]
_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_COMPILERS = ("cc", "gcc", "clang")
_COMPILE_SECONDS = 120.0  # at most; it took 10 on a core

ZIG = (sys.executable, "-m", "ziglang", "cc")

_log = logging.getLogger(__name__)


class NativeUnavailable(Exception):
    """The reason why decode.c can't run on this machine."""


def load_library(cache_dir: Path) -> ctypes.CDLL:
    """Load the compiled decode.c from `cache_dir`; compile it first if it is missing or damaged. Raises NativeUnavailable."""
    missing = missing_instructions()
    if missing:
        raise NativeUnavailable(f"this CPU lacks {missing}")
    sets = usable_sets()
    for instructions in sets:
        try:
            library = load_set(cache_dir, instructions)
        except NativeUnavailable as error:
            if instructions is sets[-1]:
                raise
            _log.info("no decoder for %s: %s", instructions.title, error)  # an old compiler may know the next one
        else:
            _log.info("the native decoder uses %s", instructions.title)
            return library
    raise AssertionError("there is a set")


def compile_flags(instructions: InstructionSet) -> list[str]:
    """Return the compiler's flags for decode.c."""
    return [*_FLAGS, *instructions.flags]


def load_set(cache_dir: Path, instructions: InstructionSet) -> ctypes.CDLL:
    """Load decode.c for one instruction set, as `load_library` does."""
    sources = b"".join(path.read_bytes() for path in sorted(_FOLDER.glob("*.[ch]")))
    flags = compile_flags(instructions)
    digest = hashlib.sha256(sources + repr(flags).encode()).hexdigest()[:16]
    path = cache_dir / f"decoder-{instructions.name}-{digest}{_SUFFIX}"
    try:
        if not _is_intact(path):
            cache_dir.mkdir(parents=True, exist_ok=True)
            with turn(cache_dir):
                if not _is_intact(path):  # another start may have compiled it meanwhile
                    _compile(path, flags)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"{path} can't be compiled or loaded: {error.strerror or error}") from error


def _is_intact(path: Path) -> bool:
    """Return whether a library has the checksum beside it: loading a truncated one would end the process."""
    try:
        return path.with_suffix(".sha256").read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError):
        return False


def _compile(path: Path, flags: list[str]) -> None:
    """Compile decode.c to `path`, never leaving a partial file there, and remove older versions. Raises NativeUnavailable."""
    compiler = find_compiler()
    sweep_unfinished(path.parent)
    with unfinished_folder(path.parent) as folder:
        compiled = folder / path.name
        if compiler == list(ZIG):
            flags = [flag.replace("cortex-a76", "cortex_a76") for flag in flags]  # Zig's name
        command = [*compiler, *flags, "-o", str(compiled), str(_SOURCE), *_LIBRARIES]
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
    for older in path.parent.glob(f"{path.stem.rpartition('-')[0]}-*.*"):
        if older.stem != path.stem:
            with suppress(OSError):  # Windows keeps what another process has loaded
                older.unlink()


def find_compiler() -> list[str]:
    """Find a C compiler: the environment variable CC, a usual name, or the Python package ziglang.

    Returns its command; raises NativeUnavailable.
    """
    names = [*filter(None, [os.environ.get("CC")]), *_COMPILERS]
    for name in names:
        try:
            words = shlex.split(name)
        except ValueError as error:
            raise NativeUnavailable(f"CC is {name!r}, which is not a command ({error})") from error
        if words and shutil.which(words[0]):
            return words
    if find_spec("ziglang"):
        return list(ZIG)
    raise NativeUnavailable(f"there is no C compiler (looked for {', '.join(names)} and the Python package ziglang)")
