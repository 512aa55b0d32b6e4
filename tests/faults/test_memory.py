"""Draw many images in a row, and look at what the process keeps."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from tests.end_to_end.callers import draw
from tests.end_to_end.server_process import ROOT, ServerProcess
from tests.faults.calling import numbers

A_REQUEST = 10
MAX_GROWTH = 1.05


# First as many as it takes for every thread and buffer to be there.
@pytest.mark.parametrize(
    ("first", "then"), [(40, 100), pytest.param(200, 2000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_memory_stays_while_many_images_are_drawn(server: ServerProcess, first: int, then: int) -> None:
    def draw_and_measure(images: int, seed: int) -> float:
        for number in range(images // A_REQUEST):
            draw(server, text="a red circle", num_images=A_REQUEST, seed=seed + A_REQUEST * number)
        return numbers(server)["process_resident_memory_bytes"]

    before = draw_and_measure(first, 0)
    after = draw_and_measure(then, first)
    assert after < MAX_GROWTH * before
    print(f"\n{then} images: memory {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after ({after / before - 1:+.1%})")


_COUNT_ARENAS = """
import ctypes, os, threading
from host.malloc import share_arenas
share_arenas()
meeting = threading.Barrier(7)

def allocate():
    kept = bytes(100_000)  # malloc's, not Python's own nor the system's
    meeting.wait()
    meeting.wait()

for _ in range(6):
    threading.Thread(target=allocate).start()
meeting.wait()
libc, (out, into) = ctypes.CDLL(None), os.pipe()
libc.fdopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fdopen(into, b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
meeting.wait()
print(os.fdopen(out).read().count("<heap nr="))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc has arenas to share"
)
def test_threads_share_two_arenas_unless_the_environment_says_otherwise() -> None:
    def arenas(**environment: str) -> int:
        others = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
        run = subprocess.run(
            [sys.executable, "-c", _COUNT_ARENAS],
            cwd=ROOT,
            env={**others, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(run.stdout)

    assert arenas() <= 2 < arenas(MALLOC_ARENA_MAX="8")
