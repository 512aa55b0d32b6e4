"""Draw many images in a row, and look at what the process keeps."""

from __future__ import annotations

import pytest

from tests.end_to_end.callers import draw
from tests.end_to_end.server_process import ServerProcess
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
