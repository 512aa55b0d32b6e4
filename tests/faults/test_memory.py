"""The process's memory while many images are drawn."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from tests.end_to_end.callers import draw
from tests.end_to_end.server_process import ROOT, ServerProcess
from tests.faults.calling import metrics

IMAGES_PER_REQUEST = 10
MAX_GROWTH = 1.05


# The first images allocate all threads and buffers.
@pytest.mark.parametrize(
    ("first", "then"), [(40, 100), pytest.param(200, 2000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_memory_does_not_grow_while_many_images_are_drawn(server: ServerProcess, first: int, then: int) -> None:
    def draw_and_measure(images: int, seed: int) -> float:
        for number in range(images // IMAGES_PER_REQUEST):
            draw(server, text="a red circle", num_images=IMAGES_PER_REQUEST, seed=seed + IMAGES_PER_REQUEST * number)
        return metrics(server)["process_resident_memory_bytes"]

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
    kept = bytes(100_000)  # large enough for malloc instead of Python's allocator, too small for mmap
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


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc has arenas")
def test_threads_share_two_arenas_unless_the_environment_sets_another_number() -> None:
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
