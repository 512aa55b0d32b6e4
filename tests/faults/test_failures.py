"""Many failing steps of the real server; tests/end_to_end/test_failures.py has one of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.callers import draw, eventually, post
from tests.end_to_end.server_process import FaultyServer
from tests.faults.calling import metrics_when_idle

# Exhausted memory comes first: from then on images are drawn one by one, and a failing image fails alone. Images that fail
# together would be detokenized again.
FAULTS = ["step memory 1", "step raise", "encode raise", "admit raise", "detokenize raise"]
ROUNDS = 20


@pytest.mark.soak
def test_steps_that_fail_cost_their_own_images_only(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--log_format", "json") as running:
        wanted = draw(running, text="a red circle", seed=1)
        ids = []
        for number in range(ROUNDS * len(FAULTS)):
            running.fault(FAULTS[number % len(FAULTS)])
            answer = post(running, text="two yellow hearts", num_images=2)
            running.heal()
            if answer.status_code == 500:
                ids.append(answer.json()["error"]["request_id"])
                assert ids[-1] == answer.headers["X-Request-Id"]
            assert draw(running, text="a red circle", seed=1) == wanted
        found = metrics_when_idle(running)
        assert (found["dalle_engine_up"], found["dalle_images_failed_total"]) == (1, 2 * len(ids))
        assert len(ids) == ROUNDS * (len(FAULTS) - 1)  # exhausted memory loses no image
        assert eventually(lambda: all(any(each in line and '"exception"' in line for line in running.log) for each in ids))
    print(f"\n{ROUNDS * len(FAULTS)} steps failed: {len(ids)} errors, {ROUNDS} drawn again, all following requests unchanged")
