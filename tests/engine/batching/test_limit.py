"""How many at once, after memory ran out."""

from __future__ import annotations

from engine.batching.limit import PATIENCE, AdaptiveLimit


def steps_until_raised(limit: AdaptiveLimit) -> int:
    return next(count for count in range(1, 100 * PATIENCE) if limit.count_step())


def test_it_halves_and_doubles_after_many_good_steps() -> None:
    limit = AdaptiveLimit(32)
    limit.halve(20)
    assert limit.value == 10
    assert [(steps_until_raised(limit), limit.value) for _ in range(2)] == [(PATIENCE, 20), (PATIENCE, 32)]
    assert not any(limit.count_step() for _ in range(2 * PATIENCE))


def test_it_is_never_below_one() -> None:
    limit = AdaptiveLimit(32)
    limit.halve(1)
    assert limit.value == 1


def test_who_fails_again_after_it_was_raised_waits_twice_as_long() -> None:
    limit = AdaptiveLimit(4)
    waits = []
    for _ in range(4):
        limit.halve(4)
        waits.append(steps_until_raised(limit))
    assert waits == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE, 8 * PATIENCE]


def test_a_failure_that_follows_another_does_not_wait_longer() -> None:
    limit = AdaptiveLimit(32)
    limit.halve(32)
    limit.halve(16)
    assert limit.value == 8
    assert steps_until_raised(limit) == PATIENCE
