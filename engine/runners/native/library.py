"""decode.c, compiled on the machine it runs on: once, and kept beside the converted models."""

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

from host.unfinished import sweep_unfinished, unfinished_folder

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "decode.c"
_NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "fma", "f16c")  # as Linux names them
_FLAGS = ["-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread", *(f"-m{name.replace('_', '')}" for name in _NEEDED)]
_COMPILERS = ("cc", "gcc", "clang")
_LONGEST = 120.0  # seconds that a compiler may take; it takes three

_log = logging.getLogger(__name__)


class NotToBeHad(Exception):
    """Say why decode.c can't run here."""


def load_library(cache_dir: Path) -> ctypes.CDLL:
    """Load the compiled decode.c; compile it where an earlier start has not.

    Raises NotToBeHad.
    """
    missing = missing_instructions()
    if missing:
        raise NotToBeHad(f"this CPU or system lacks {', '.join(missing)}")
    sources = b"".join(path.read_bytes() for path in sorted(_FOLDER.glob("*.[ch]")))
    path = cache_dir / f"decode-{hashlib.sha256(sources + repr(_FLAGS).encode()).hexdigest()[:16]}.so"
    try:
        if not _is_whole(path):
            _compile(path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NotToBeHad(f"{path} can't be made or loaded: {error.strerror or error}") from error


def _is_whole(path: Path) -> bool:
    """Tell whether a library is as it was made: loading one that is cut short would end the process."""
    try:
        return path.with_suffix(".sha256").read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError):
        return False


def missing_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return what decode.c needs and this machine lacks; other systems than Linux don't say, and lack all."""
    if platform.machine() != "x86_64" or not cpuinfo.exists():
        return ["AVX-512"]
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return [name for name in _NEEDED if name not in flags.split()]


def _compile(path: Path) -> None:
    """Compile decode.c to a file that is there whole or not at all, and drop those of older sources; raise NotToBeHad."""
    compiler = find_compiler()
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_unfinished(path.parent)
    with unfinished_folder(path.parent) as folder:
        made = folder / path.name
        command = [*compiler, *_FLAGS, "-o", str(made), str(_SOURCE), "-lm"]
        _log.info("compiling the decoder: %s", shlex.join(command))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=False)
        except subprocess.TimeoutExpired as error:
            raise NotToBeHad(f"{compiler[0]} took longer than {_LONGEST:.0f} s") from error
        if done.returncode:
            reason = next(
                (line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip() or "no reason given"
            )
            raise NotToBeHad(f"{compiler[0]} failed: {reason}")
        summed = hashlib.sha256(made.read_bytes()).hexdigest()
        made.replace(path)
        path.with_suffix(".sha256").write_text(summed)
    for older in path.parent.glob("decode-*.*"):
        if older.stem != path.stem:
            older.unlink(missing_ok=True)


def find_compiler() -> list[str]:
    """Find a C compiler: what CC says, or the usual names. Raises NotToBeHad."""
    names = [*filter(None, [os.environ.get("CC")]), *_COMPILERS]
    for name in names:
        try:
            words = shlex.split(name)
        except ValueError as error:
            raise NotToBeHad(f"CC is {name!r}, which is no command ({error})") from error
        if words and shutil.which(words[0]):
            return words
    raise NotToBeHad(f"there is no C compiler (looked for {', '.join(names)})")
