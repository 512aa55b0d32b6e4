from __future__ import annotations

import _thread
import re
import time

import pytest

from server.config.settings import Settings
from server.wsgi.thread_limit import startable_threads, why_too_few_threads


def test_threads_started_as_a_trial_end() -> None:
    before = _thread._count()
    assert startable_threads(50) == 50
    deadline = time.monotonic() + 60
    while _thread._count() > before and time.monotonic() < deadline:  # the last ones may be about to end
        time.sleep(0.001)
    assert _thread._count() == before


def test_the_suggested_queue_fits_and_a_longer_one_does_not() -> None:
    allowed = 2000
    reason = why_too_few_threads(Settings(max_queue=3000), allowed)
    assert reason is not None
    suggested = re.search(r"--max_queue 3000 .* allows 2000: set it to (\d+) at most, or raise the limit \(ulimit -u;", reason)
    assert suggested is not None
    longest = int(suggested[1])
    assert why_too_few_threads(Settings(max_queue=longest), allowed) is None
    assert why_too_few_threads(Settings(max_queue=longest + 1), allowed) is not None


@pytest.mark.parametrize("max_queue", [0, 64, 3000])
def test_no_queue_is_suggested_if_even_none_fits(max_queue: int) -> None:
    reason = why_too_few_threads(Settings(max_queue=max_queue), 400)
    assert reason is not None
    assert "allows 400: raise the limit" in reason


def test_more_computing_threads_leave_fewer_for_requests() -> None:
    assert why_too_few_threads(Settings(max_queue=1000), 1500) is None
    assert why_too_few_threads(Settings(max_queue=1000, threads=200), 1500) is not None
