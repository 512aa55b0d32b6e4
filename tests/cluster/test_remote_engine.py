"""The front's engine over two replicas in this process."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from cluster.front_queue import ClusterLimits
from cluster.messages import About, Failure
from cluster.remote_engine import RemoteEngine
from cluster.replica import Replica, ReplicaSettings
from dalle_model import (
    CallerQueueFull,
    CheckpointError,
    DalleError,
    DalleModel,
    DrawingRequest,
    EngineClosed,
    GenerationFailed,
    ImageDone,
    InvalidRequest,
    Preview,
    Progress,
    QueueFull,
    SamplingSettings,
    consecutive_seeds,
)
from engine.weights.known_words import KnownWords
from tests.cluster.local_link import LocalLink

BATCH = 2  # images that a replica draws at once
PROMPT = "a red circle on a blue background"
LIMITS = ClusterLimits(BATCH, max_machines=2, batch_per_caller=inf, max_queue=None, queue_per_caller=inf)

Start = Callable[..., DalleModel]


@pytest.fixture(scope="module")
def replicas() -> dict[str, Replica]:
    return {name: Replica(ReplicaSettings("tiny", threads=1, max_batch_size=BATCH)) for name in ("one", "two")}


@pytest.fixture(scope="module")
def alone(replicas: dict[str, Replica]) -> DalleModel:
    """Return a replica's own model: a single machine, without the front."""
    model = replicas["one"]._model
    assert model is not None
    return model


@pytest.fixture
def link(replicas: dict[str, Replica]) -> LocalLink:
    return LocalLink(replicas)


@pytest.fixture
def start(link: LocalLink) -> Iterator[Start]:
    """Return a function that starts a model over both replicas; closed after the test."""
    models: list[DalleModel] = []

    def begin(limits: ClusterLimits = LIMITS, **options: Any) -> DalleModel:
        models.append(DalleModel.over(RemoteEngine(link, limits, **options), "tiny"))
        assert eventually(lambda: models[-1].state.machines == 2)
        return models[-1]

    yield begin
    link.held = False
    link.hung.clear()
    for model in models:
        model.close(5)


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def request_of(count: int, **fields: Any) -> DrawingRequest:
    return DrawingRequest(PROMPT, consecutive_seeds(5, count), **fields)


@pytest.mark.parametrize(
    "wanted",
    [
        request_of(5),
        request_of(4, seamless=True),
        request_of(2, sampling=SamplingSettings(best_of=3)),
        request_of(1, negative_prompt="a green star"),
    ],
    ids=["more than fit at once", "seamless", "best_of", "negative prompt"],
)
def test_images_are_those_of_a_single_machine(wanted: DrawingRequest, start: Start, alone: DalleModel, link: LocalLink) -> None:
    drawing, reference = start().start(wanted), alone.start(wanted)
    assert [image.tobytes() for image in drawing.result()] == [image.tobytes() for image in reference.result()]
    assert drawing.scores == reference.scores
    if len(wanted.seeds) == 5:
        assert {name for name, _ in link.drawn} == {"one", "two"}


@pytest.mark.parametrize("fault", ["lost", "hung"])
def test_a_lost_machines_images_are_drawn_again_elsewhere_and_shown_once(
    fault: str, start: Start, alone: DalleModel, link: LocalLink
) -> None:
    model = start(silence=2.0)
    wanted = request_of(4, previews=(32, 64, 96, 128), every_preview=True)
    drawing = model.start(wanted)
    events = []
    for event in drawing.events():
        events.append(event)
        if isinstance(event, Progress) and event.tokens_drawn >= 104:
            getattr(link, fault).add("one")
    done = {event.index: event.image.tobytes() for event in events if isinstance(event, ImageDone)}
    assert [done[index] for index in range(4)] == [image.tobytes() for image in alone.start(request_of(4)).result()]
    for kind, times in ((ImageDone, 1), (Preview, 4)):
        assert sorted(event.index for event in events if isinstance(event, kind)) == sorted([*range(4)] * times)
    assert {name for name, _ in link.drawn} == {"one", "two"} and len(link.drawn) > 2
    assert model.state.machines == 1
    assert fault == "lost" or eventually(lambda: link.killed == ["one"])
    assert (model.state.images_drawn, model.state.images_failed, model.state.images_cancelled) == (4, 0, 0)


def test_without_a_machine_requests_wait_for_one(start: Start, link: LocalLink) -> None:
    model = start()
    link.lost = {"one", "two"}
    assert eventually(lambda: model.state.machines == 0)
    drawing = model.start(request_of(1))
    with pytest.raises(EngineClosed):
        model.count_text_tokens(PROMPT)
    assert model.prompt_warnings("red " * 100) == []
    assert model.state.seconds_in_step > 0 and model.state.is_alive
    link.lost.clear()
    assert len(drawing.result()) == 1
    assert model.count_text_tokens(PROMPT) > 2
    assert len(model.prompt_warnings("red " * 100)) == 1


def test_a_request_that_ends_every_machine_fails(start: Start, link: LocalLink) -> None:
    model = start()
    link.draw = lambda *_: broken()  # type: ignore[method-assign]
    with pytest.raises(GenerationFailed):
        model.start(request_of(1)).result()
    assert model.state.images_failed == 1


async def broken() -> Any:
    raise ConnectionError("lost")
    yield


def test_cancelled_images_leave_the_machines(start: Start, link: LocalLink, replicas: dict[str, Replica]) -> None:
    model = start()
    drawing = model.start(request_of(6))
    assert eventually(lambda: sum(replica._loaded.state.slots_in_use for replica in replicas.values()) == 4)
    drawing.cancel()
    assert model.state.slots_in_use == model.state.images_waiting == 0
    assert eventually(lambda: sum(replica._loaded.state.slots_in_use for replica in replicas.values()) == 0)
    assert model.state.images_cancelled == 6


def test_bounds_shares_and_turns_hold_for_all_machines_together(start: Start, link: LocalLink) -> None:
    model = start(replace(LIMITS, batch_per_caller=1, max_queue=4, queue_per_caller=3))
    link.held = True
    ann = [model.start(request_of(1), "ann") for _ in range(2)]
    assert eventually(lambda: model.state.slots_in_use == 2)  # her share of two batches
    ann += [model.start(request_of(1), "ann") for _ in range(3)]
    with pytest.raises(CallerQueueFull) as refused:
        model.start(request_of(1), "ann")
    assert 1 <= refused.value.retry_after <= 120
    bob = model.start(DrawingRequest("bob's", (1, 2)), "bob")
    assert eventually(lambda: model.state.slots_in_use == 4)
    assert model.state.images_waiting == 3
    model.start(request_of(1), "eve")
    with pytest.raises(QueueFull) as full:
        model.start(request_of(1), "zoe")
    assert not isinstance(full.value, CallerQueueFull)
    with pytest.raises(InvalidRequest):
        model.start(request_of(9))
    link.held = False
    assert len(bob.result()) == 2
    assert [len(drawing.result()) for drawing in ann] == [1] * 5
    assert [request.prompt for _, request in link.drawn].index("bob's") == 2


def test_a_drain_refuses_new_requests_and_a_close_ends_the_rest(start: Start, link: LocalLink) -> None:
    model = start()
    link.held = True
    drawing = model.start(request_of(1))
    model.drain()
    assert model.state.is_draining
    with pytest.raises(EngineClosed):
        model.start(request_of(1))
    assert model.close(5)
    with pytest.raises(EngineClosed):
        drawing.result()
    assert not model.state.is_alive


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("seed", "seed must be good"), CallerQueueFull(7), GenerationFailed("it failed"), CheckpointError("bad file")],
)
def test_errors_travel_as_values(error: DalleError) -> None:
    arrived = pickle.loads(pickle.dumps(Failure.of(error))).error
    assert (type(arrived), str(arrived), vars(arrived)) == (type(error), str(error), vars(error))


def test_a_model_that_cannot_be_loaded_is_the_fronts_error(tmp_path: Any) -> None:
    link = LocalLink({"one": Replica(ReplicaSettings("mini", models_root=tmp_path))})
    with pytest.raises(CheckpointError, match=r"vocab\.json is missing"):
        RemoteEngine(link, LIMITS)


def test_a_request_stays_on_machines_of_one_kind_and_unlike_ones_are_reported(
    start: Start, link: LocalLink, replicas: dict[str, Replica], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = about_of(replicas["two"])
    monkeypatch.setattr(replicas["two"], "_about", replace(about, kind=replace(about.kind, processor="another processor")))
    assert len(start().start(request_of(4)).result()) == 4
    assert len({name for name, _ in link.drawn}) == 1
    assert "the machines are not alike" in caplog.text and "another processor" in caplog.text


def test_the_front_knows_the_models_words(start: Start, replicas: dict[str, Replica], monkeypatch: pytest.MonkeyPatch) -> None:
    words = KnownWords({"things": {"circle": ("disc",)}})
    for replica in replicas.values():
        monkeypatch.setattr(replica, "_about", replace(about_of(replica), known_words=words))
    model = start()
    assert model.known_words is not None
    assert model.known_words.unknown_words("a disc and a unicorn") == ["unicorn"]


def about_of(replica: Replica) -> About:
    assert isinstance(replica._about, About)
    return replica._about
