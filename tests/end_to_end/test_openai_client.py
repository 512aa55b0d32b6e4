"""The real server with the official `openai` package, which validates all responses against its types."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from PIL import Image

from tests.end_to_end.callers import eventually, eventually_shows
from tests.end_to_end.server_process import FaultyServer, ServerProcess

KEY = "a-key-of-this-test"


def client(server: ServerProcess, **options: Any) -> OpenAI:
    return OpenAI(**{"base_url": f"{server.url}/v1", "api_key": "x", "_strict_response_validation": True, **options})


def async_client(server: ServerProcess) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", _strict_response_validation=True)


def decoded_image(in_base64: str | None) -> Image.Image:
    assert in_base64 is not None
    return Image.open(BytesIO(base64.b64decode(in_base64, validate=True)))


def check_events(events: list[ImageGenCompletedEvent | ImageGenPartialImageEvent], partial_images: int) -> None:
    *partial, completed = events
    assert isinstance(completed, ImageGenCompletedEvent)
    assert completed.usage.output_tokens == 256
    assert [event.partial_image_index for event in partial if isinstance(event, ImageGenPartialImageEvent)] == list(
        range(partial_images)
    )
    assert len(partial) == partial_images
    assert {decoded_image(event.b64_json).size for event in events} == {(256, 256)}


def test_two_images(server: ServerProcess) -> None:
    answer = client(server).images.generate(prompt="a red circle", n=2)
    assert answer.data is not None and answer.usage is not None
    assert [decoded_image(item.b64_json).size for item in answer.data] == [(256, 256)] * 2
    assert answer.usage.output_tokens == 512
    assert answer._request_id


def test_all_arguments_and_our_additional_ones(server: ServerProcess) -> None:
    def draw(**extra: Any) -> Any:
        return client(server).images.generate(
            prompt="a red circle",
            model="gpt-image-1",
            n=1,
            size="1024x1024",
            quality="high",
            background="opaque",
            moderation="low",
            output_format="webp",
            output_compression=80,
            style="vivid",
            user="somebody",
            response_format="b64_json",
            extra_body={"seed": 7, **extra},
        )

    answer = draw()
    assert (answer.size, answer.output_format, answer.background) == ("1024x1024", "webp", "opaque")
    [item] = answer.data
    assert (decoded_image(item.b64_json).format, decoded_image(item.b64_json).size) == ("WEBP", (1024, 1024))
    assert item.seed == 7
    assert draw().data == answer.data
    assert draw(guidance=0).data != answer.data


def test_arguments_of_none(server: ServerProcess) -> None:
    answer = client(server).images.generate(prompt="a red circle", model=None, n=None, size=None, output_format=None)
    assert answer.data is not None and len(answer.data) == 1


@pytest.mark.parametrize("partial_images", [0, 1, 3])
def test_a_stream(server: ServerProcess, partial_images: int) -> None:
    with client(server).images.generate(prompt="a red circle", stream=True, partial_images=partial_images) as stream:
        check_events(list(stream), partial_images)


def test_the_events_of_several_images_have_their_indices(server: ServerProcess) -> None:
    events = client(server).images.generate(prompt="a red circle", n=3, stream=True, extra_body={"seed": 5})
    # The official type has no such fields, but keeps them.
    assert sorted((event.index, event.seed) for event in events) == [(0, 5), (1, 6), (2, 7)]  # type: ignore[union-attr]


def test_async(server: ServerProcess) -> None:
    async def draw() -> None:
        async with async_client(server) as caller:
            answer = await caller.images.generate(prompt="a red circle", n=2)
            assert answer.data is not None and len(answer.data) == 2
            stream = await caller.images.generate(prompt="a red circle", stream=True, partial_images=2)
            check_events([event async for event in stream], 2)
            with pytest.raises(openai.BadRequestError):
                await caller.images.generate(prompt="a red circle", n=99)
            assert "Tiny" in [model.id async for model in caller.models.list()]

    asyncio.run(draw())


def test_models(server: ServerProcess) -> None:
    caller = client(server)
    assert [model.id for model in caller.models.list()] == ["Tiny", "dall-e-2", "dall-e-3", "gpt-image-1"]
    assert caller.models.retrieve("Tiny").object == "model"
    with pytest.raises(openai.NotFoundError) as missing:
        caller.models.retrieve("owner/dall-e")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


def test_an_invalid_argument_is_named(server: ServerProcess) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client(server).images.generate(prompt="a red circle", background="transparent")
    assert (refused.value.param, refused.value.code, refused.value.type) == (
        "background",
        "invalid_value",
        "invalid_request_error",
    )
    assert refused.value.request_id
    assert "leave it out" in refused.value.message


def test_an_invalid_argument_of_a_stream_is_named_before_the_stream_starts(server: ServerProcess) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client(server).images.generate(prompt="a red circle", stream=True, n=99)
    assert refused.value.param == "n"


class RequestRecord:
    """The retry counts and statuses of a client's requests."""

    def __init__(self) -> None:
        self.retry_counts: list[str] = []
        self.statuses: list[int] = []

    def http_client(self) -> openai.DefaultHttpxClient:
        return openai.DefaultHttpxClient(event_hooks={"request": [self._sent], "response": [self._answered]})

    def _sent(self, request: Any) -> None:
        self.retry_counts.append(request.headers["x-stainless-retry-count"])

    def _answered(self, response: Any) -> None:
        self.statuses.append(response.status_code)


def edit(caller: OpenAI) -> object:
    return caller.images.edit(image=("image.png", b"\x89PNG"), prompt="a hat")


def vary(caller: OpenAI) -> object:
    return caller.images.create_variation(image=("image.png", b"\x89PNG"))


@pytest.mark.parametrize("call", [edit, vary])
def test_unsupported_routes_are_not_retried(server: ServerProcess, call: Callable[[OpenAI], object]) -> None:
    record = RequestRecord()
    with pytest.raises(openai.BadRequestError) as refused:
        call(client(server, http_client=record.http_client()))
    assert refused.value.code == "not_supported"
    assert "POST /v1/images/generations" in refused.value.message
    assert record.retry_counts == ["0"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    with FaultyServer(
        tmp_path_factory.mktemp("faults"), "--max_batch_size", "1", "--max_queue", "1", DALLE_API_KEY=KEY
    ) as running:
        yield running


@pytest.fixture
def faulty(running: FaultyServer) -> Iterator[FaultyServer]:
    yield running
    running.heal()
    assert eventually_shows(running, queue_images=0, slots_in_use=0)


def test_only_a_valid_key_is_accepted(faulty: FaultyServer) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        client(faulty).images.generate(prompt="a red circle")
    assert refused.value.code == "invalid_api_key"
    assert client(faulty, api_key=KEY).images.generate(prompt="a red circle").data


def test_a_request_to_a_full_queue_is_retried_until_there_is_room(faulty: FaultyServer) -> None:
    caller, record = client(faulty, api_key=KEY, max_retries=0), RequestRecord()
    patient = client(faulty, api_key=KEY, max_retries=100, http_client=record.http_client())
    faulty.fault("step hold")
    with ThreadPoolExecutor(3) as pool:
        filling = [pool.submit(caller.images.generate, prompt="a red circle")]
        assert eventually_shows(faulty, slots_in_use=1)
        filling.append(pool.submit(caller.images.generate, prompt="a red circle"))
        assert eventually_shows(faulty, queue_images=1)
        with pytest.raises(openai.RateLimitError) as refused:
            caller.images.generate(prompt="a red circle")
        assert (refused.value.code, refused.value.type) == ("queue_full", "rate_limit_error")
        assert int(refused.value.response.headers["retry-after"]) >= 1
        waiting = pool.submit(patient.images.generate, prompt="a red circle")
        assert eventually(lambda: 429 in record.statuses)
        faulty.heal()
        assert waiting.result().data and all(call.result().data for call in filling)
    assert record.statuses[-1] == 200
    assert record.retry_counts == [str(index) for index in range(len(record.statuses))]


def test_a_failure_is_an_error_with_a_request_id_and_a_retry_succeeds(faulty: FaultyServer) -> None:
    faulty.fault("step raise")
    with pytest.raises(openai.InternalServerError) as failed:
        client(faulty, api_key=KEY, max_retries=0).images.generate(prompt="a red circle")
    assert failed.value.type == "server_error"
    assert failed.value.request_id and failed.value.request_id in failed.value.message
    faulty.fault("step raise")
    assert client(faulty, api_key=KEY).images.generate(prompt="a red circle").data


def test_a_failure_in_the_middle_of_a_stream_is_raised(faulty: FaultyServer) -> None:
    faulty.fault("step hold 100")
    with client(faulty, api_key=KEY).images.generate(prompt="a red circle", stream=True, partial_images=3) as stream:
        assert isinstance(next(stream), ImageGenPartialImageEvent)
        faulty.fault("step raise")
        with pytest.raises(openai.APIError) as failed:
            next(stream)
    assert failed.value.type == "server_error"
    assert "could not be drawn" in failed.value.message


def test_a_timeout_frees_the_slot(faulty: FaultyServer) -> None:
    faulty.fault("step hold")
    with pytest.raises(openai.APITimeoutError):
        client(faulty, api_key=KEY, timeout=1, max_retries=0).images.generate(prompt="a red circle")
    faulty.heal()
    assert eventually_shows(faulty, slots_in_use=0, queue_images=0)
