"""Failures in the engine: only the requests at fault end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.batching import limit
from engine.batching.engine import Engine
from engine.batching.job import Job
from engine.errors import CheckpointError, EngineClosed, GenerationFailed
from engine.events import Preview, Progress
from engine.memory import is_memory_exhausted
from engine.request import PREVIEWS
from tests.end_to_end.callers import eventually
from tests.engine.conftest import MakeEngine
from tests.engine.watched_runner import WatchedRunner, images_of, request, wait_for

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("method", ["encode", "admit", "step", "detokenize"])
def test_a_failure_ends_its_request_and_no_later_one(engine: Engine, runner: WatchedRunner, method: str) -> None:
    expected = images_of(engine.submit(request()))
    runner.faults[method] = [RuntimeError("a wire came loose")]
    job = engine.submit(request(seeds=(1, 2), previews=PREVIEWS))
    with pytest.raises(GenerationFailed) as failure:
        images_of(job)
    assert "wire" not in str(failure.value)
    assert "wire" in str(failure.value.__cause__)
    assert images_of(engine.submit(request())) == expected
    assert engine.state.images_failed == 2


def test_a_failure_between_two_steps_ends_the_requests_in_the_batch(engine: Engine, runner: WatchedRunner) -> None:
    expected = images_of(engine.submit(request()))
    staying, leaving = engine.submit(request()), engine.submit(request("a star"))
    wait_for(leaving, lambda event: isinstance(event, Progress))
    runner.hold()
    runner.wait_until_held()
    runner.faults["rearrange"] = [RuntimeError("a wire came loose")]
    engine.cancel(leaving)
    runner.go()
    with pytest.raises(GenerationFailed):
        images_of(staying)
    assert images_of(engine.submit(request())) == expected


def test_waiting_requests_are_drawn_after_a_batch_failed(make_engine: MakeEngine, runner: WatchedRunner) -> None:
    engine = make_engine(1)
    expected = images_of(engine.submit(request(seeds=(5, 6))))
    runner.hold()
    failing, waiting = engine.submit(request()), engine.submit(request(seeds=(5, 6)))
    runner.wait_until_held()
    runner.faults["step"] = [RuntimeError("a wire came loose")]
    runner.go()
    with pytest.raises(GenerationFailed):
        images_of(failing)
    assert images_of(waiting) == expected


@pytest.mark.parametrize("method", ["encode", "detokenize"])
def test_one_bad_request_does_not_harm_others_in_the_batch(engine: Engine, runner: WatchedRunner, method: str) -> None:
    expected = images_of(engine.submit(request(seeds=(5, 6))))
    beside = engine.submit(request(seeds=(5, 6)))
    wait_for(beside, lambda event: isinstance(event, Progress))
    runner.hold()
    runner.wait_until_held()
    runner.faults[method] = [RuntimeError("a wire came loose")]
    bad = engine.submit(request("a star", previews=PREVIEWS))
    runner.go()
    with pytest.raises(GenerationFailed):
        wait_for(bad, lambda event: isinstance(event, Preview))
    assert images_of(beside) == expected


def test_out_of_memory_makes_the_batch_smaller_and_loses_no_image(engine: Engine, runner: WatchedRunner) -> None:
    requests = [request("a star", (1, 2, 3)), request("a heart", (4,)), request(seeds=(5, 6))]
    expected = [images_of(engine.submit(each)) for each in requests]
    runner.max_rows = 2
    jobs = [engine.submit(each) for each in requests]
    assert [images_of(job) for job in jobs] == expected
    assert engine.state.batch_limit == 2
    assert engine.state.images_failed == 0
    later = len(runner.batch_sizes)
    images_of(engine.submit(request(seeds=(1, 2, 3, 4))))
    assert max(runner.batch_sizes[later:]) == 2


def test_an_image_that_alone_runs_out_of_memory_fails_and_the_next_is_drawn(engine: Engine, runner: WatchedRunner) -> None:
    expected = images_of(engine.submit(request()))
    runner.max_rows = 0
    with pytest.raises(GenerationFailed):
        images_of(engine.submit(request(seeds=(1, 2))))
    runner.max_rows = 4
    assert images_of(engine.submit(request())) == expected
    assert engine.state.batch_limit == 1


@pytest.mark.parametrize(
    ("method", "every_preview"), [("encode", False), ("admit", False), ("detokenize", False), ("detokenize", True)]
)
def test_out_of_memory_between_steps_loses_no_image(
    engine: Engine, runner: WatchedRunner, method: str, every_preview: bool
) -> None:
    with_previews = request(seeds=(1, 2, 3, 4), previews=PREVIEWS, every_preview=every_preview)
    expected = images_of(engine.submit(with_previews))
    runner.faults[method] = [MemoryError("no more room")]
    assert images_of(engine.submit(with_previews)) == expected


def test_pictures_that_run_out_of_memory_are_detokenized_fewer_at_once(engine: Engine, runner: WatchedRunner) -> None:
    expected = images_of(engine.submit(request(seeds=(1, 2, 3, 4))))
    runner.faults["detokenize"] = [MemoryError("no more room")]
    assert images_of(engine.submit(request(seeds=(1, 2, 3, 4)))) == expected
    assert [count for name, count in runner.calls if name == "detokenize"] == [4, 4, 2, 2]


def submit_together(engine: Engine, runner: WatchedRunner, count: int) -> list[Job]:
    """Submit `count` requests for one image each, so that all are drawn in the same steps."""
    runner.hold()
    first = engine.submit(request())
    runner.wait_until_held()
    jobs = [engine.submit(request(seeds=(seed,))) for seed in range(count)]
    engine.cancel(first)
    runner.go()
    return jobs


def test_of_pictures_that_fail_together_only_the_one_at_fault_ends(engine: Engine, runner: WatchedRunner) -> None:
    expected = images_of(engine.submit(request(seeds=(0, 1, 2, 3))))
    del runner.calls[:]
    runner.faults["detokenize"] = [RuntimeError("a wire came loose")] * 2
    jobs = submit_together(engine, runner, 4)
    with pytest.raises(GenerationFailed):
        images_of(jobs[0])
    assert [images_of(job) for job in jobs[1:]] == [{0: expected[seed]} for seed in (1, 2, 3)]
    assert [count for name, count in runner.calls if name == "detokenize"] == [4, 1, 1, 1, 1]
    images_of(engine.submit(request(seeds=(1, 2))))
    assert runner.calls[-2:].count(("detokenize", 2)) == 1


def test_a_picture_that_runs_out_of_memory_twice_ends_alone(engine: Engine, runner: WatchedRunner) -> None:
    expected = images_of(engine.submit(request(seeds=(5, 6, 7))))
    beside = engine.submit(request(seeds=(5, 6, 7)))
    wait_for(beside, lambda event: isinstance(event, Progress))
    runner.faults["detokenize"] = [MemoryError("no more room")] * 2
    large = engine.submit(request("a star", previews=PREVIEWS))
    with pytest.raises(GenerationFailed):
        images_of(large)
    assert images_of(beside) == expected
    assert engine.state.batch_limit == 2
    assert engine.state.images_failed == 1


def test_a_seamless_picture_too_large_for_memory_ends_alone(engine: Engine, runner: WatchedRunner) -> None:
    expected = images_of(engine.submit(request(seeds=(5, 6))))
    runner.hold()
    beside = engine.submit(request(seeds=(5, 6)))
    runner.wait_until_held()
    large = engine.submit(request("a star", (1, 2), seamless=True))
    resets = runner.calls.count(("reset", 0))
    runner.max_side = 16
    runner.go()
    with pytest.raises(GenerationFailed):
        images_of(large)
    assert images_of(beside) == expected
    assert engine.state.batch_limit == 4
    assert runner.calls.count(("reset", 0)) == resets
    assert len(runner.batch_sizes) <= 256 * 2 + 3  # no image was drawn twice


def test_a_seamless_picture_is_tried_again_after_running_out_of_memory_once(engine: Engine, runner: WatchedRunner) -> None:
    expected = images_of(engine.submit(request("a star", (1, 2), seamless=True)))
    runner.hold()
    beside = engine.submit(request(seeds=(5, 6)))
    runner.wait_until_held()
    runner.faults["detokenize"] = [MemoryError("no more room")]
    large = engine.submit(request("a star", (1, 2), seamless=True))
    runner.go()
    assert images_of(large) == expected
    assert len(images_of(beside)) == 2
    assert engine.state.images_failed == 0


def test_the_batch_limit_rises_again_after_running_out_of_memory(
    make_engine: MakeEngine, runner: WatchedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit, "PATIENCE", 700)
    engine = make_engine(4)
    runner.max_rows = 2
    images_of(engine.submit(request(seeds=(1, 2, 3, 4))))
    assert engine.state.batch_limit == 2
    runner.max_rows = 4
    expected = images_of(engine.submit(request(seeds=(1, 2, 3, 4))))
    later = len(runner.batch_sizes)
    assert images_of(engine.submit(request(seeds=(1, 2, 3, 4)))) == expected
    assert max(runner.batch_sizes[later:]) == 4
    assert engine.state.batch_limit == 4


@pytest.mark.parametrize("bad", [0, 1])
def test_an_image_whose_logits_are_not_finite_ends_alone(engine: Engine, runner: WatchedRunner, bad: int) -> None:
    expected = images_of(engine.submit(request(seeds=(0, 1))))
    jobs = submit_together(engine, runner, 2)
    for job in jobs:
        wait_for(job, lambda event: isinstance(event, Progress))
    runner.row_with_nan = bad
    with pytest.raises(GenerationFailed) as failure:
        images_of(jobs[bad])
    assert isinstance(failure.value.__cause__, ArithmeticError)
    assert images_of(jobs[1 - bad]) == {0: expected[1 - bad]}


def test_a_model_too_large_for_memory_is_an_error_with_a_remedy() -> None:
    def load() -> Any:
        torch.empty(2**60)

    with pytest.raises(CheckpointError, match="not enough memory to load the model: choose a smaller model"):
        Engine(load, max_batch_size=1)


def test_if_the_engines_thread_dies_all_requests_end_and_new_ones_are_refused(
    make_engine: MakeEngine, runner: WatchedRunner, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(1)
    runner.hold()
    jobs = [engine.submit(request()), engine.submit(request())]
    runner.faults["step"] = [SystemExit("killed")]
    runner.go()
    for job in jobs:
        with pytest.raises(EngineClosed):
            images_of(job)
    assert engine.close(60)
    assert not engine.state.is_alive
    with pytest.raises(EngineClosed):
        engine.submit(request())
    assert "thread ends" in caplog.text


def test_a_runner_that_cannot_be_reset_ends_the_engines_thread(engine: Engine, runner: WatchedRunner) -> None:
    runner.faults = {"step": [RuntimeError("a wire came loose")], "reset": [RuntimeError("and another")]}
    with pytest.raises(GenerationFailed):
        images_of(engine.submit(request()))
    assert eventually(lambda: not engine.state.is_alive)


def test_every_out_of_memory_error_is_recognized() -> None:
    with pytest.raises(RuntimeError) as from_torch:
        torch.empty(2**60)
    assert is_memory_exhausted(from_torch.value)
    assert is_memory_exhausted(MemoryError())
    assert is_memory_exhausted(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_memory_exhausted(RuntimeError("shapes cannot be multiplied"))


_UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
from dalle_model import DalleModel

def pixels(count):
    return [image.tobytes() for image in model.generate_images("a red circle", count, seed=1)]

with DalleModel("tiny", models_root=Path("tests/models"), precision="float32", max_batch_size=32) as model:
    alone = pixels(2)
    in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 75 * 2**20, resource.RLIM_INFINITY))  # 32 images need three times as much
    together = pixels(32)
    print(together[:2] == alone, len(together), model.state.images_failed, model.state.batch_limit < 32)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the test limits memory with a system call of Linux")
def test_really_running_out_of_memory_loses_no_image() -> None:
    run = subprocess.run([sys.executable, "-c", _UNDER_A_LIMIT], cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert run.stdout == "True 32 0 True\n", run.stderr
