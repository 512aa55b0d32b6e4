from __future__ import annotations

import re
import threading

import pytest

from server.config.settings import Settings
from server.wsgi.thread_limit import startable_threads, why_too_few_threads


def test_threads_that_are_tried_end() -> None:
    before = threading.active_count()
    assert startable_threads(50) == 50
    assert threading.active_count() == before


def test_the_queue_that_is_advised_fits_and_a_longer_one_does_not() -> None:
    allowed = 2000
    reason = why_too_few_threads(Settings(max_queue=3000), allowed)
    assert reason is not None
    advised = re.search(r"--max_queue 3000 .* allows 2000: set it to (\d+) at most, or raise the limit \(ulimit -u;", reason)
    assert advised is not None
    longest = int(advised[1])
    assert why_too_few_threads(Settings(max_queue=longest), allowed) is None
    assert why_too_few_threads(Settings(max_queue=longest + 1), allowed) is not None


@pytest.mark.parametrize("max_queue", [0, 64, 3000])
def test_where_no_queue_is_short_enough_none_is_advised(max_queue: int) -> None:
    reason = why_too_few_threads(Settings(max_queue=max_queue), 400)
    assert reason is not None
    assert "allows 400: raise the limit" in reason


def test_more_threads_that_compute_leave_fewer_for_callers() -> None:
    assert why_too_few_threads(Settings(max_queue=1000), 1500) is None
    assert why_too_few_threads(Settings(max_queue=1000, threads=200), 1500) is not None
