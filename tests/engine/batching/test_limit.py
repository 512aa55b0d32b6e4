"""The limit of images drawn at once, after memory ran out."""

from __future__ import annotations

from engine.batching.limit import PATIENCE, AdaptiveLimit


def steps_until_raised(limit: AdaptiveLimit) -> int:
    return next(count for count in range(1, 100 * PATIENCE) if limit.count_steps(1))


def test_the_limit_halves_and_then_doubles_after_many_good_steps() -> None:
    limit = AdaptiveLimit(32)
    limit.halve(20)
    assert limit.value == 10
    assert [(steps_until_raised(limit), limit.value) for _ in range(2)] == [(PATIENCE, 20), (PATIENCE, 32)]
    assert not any(limit.count_steps(1) for _ in range(2 * PATIENCE))


def test_failing_again_after_a_raise_doubles_the_wait() -> None:
    limit = AdaptiveLimit(4)
    waits = []
    for _ in range(4):
        limit.halve(4)
        waits.append(steps_until_raised(limit))
    assert waits == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE, 8 * PATIENCE]


def test_a_second_failure_in_a_row_does_not_double_the_wait() -> None:
    limit = AdaptiveLimit(32)
    limit.halve(32)
    limit.halve(16)
    assert limit.value == 8
    assert steps_until_raised(limit) == PATIENCE
