"""List the API's operations, for /openapi.json and /docs. A test holds that no route is missing."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from consts import MAX_BODY_BYTES
from server.api.classic.schemas import (
    DalleAnswer,
    DoneEvent,
    ImageEvent,
    PreviewEvent,
    ProgressEvent,
    QueuedEvent,
    dalle_request_model,
)
from server.api.error_bodies import ClassicErrorBody, OpenAIErrorBody, OpenAIErrorEvent, is_openai_path
from server.api.openai.schemas import CompletedEvent, ImagesAnswer, ModelCard, ModelList, PartialImageEvent, images_request_model
from server.config.settings import Settings
from server.documentation.openapi import JSON, Operation, Reply
from server.operations.health import HealthAnswer

_OPENAI, _CLASSIC, _WATCHING = "OpenAI Images", "Classic", "Watching"

_ERRORS = {
    400: "The body is no JSON object, or a field is not acceptable: the error names it and says what is.",
    401: "A key is needed, and none or a wrong one came.",
    404: "There is nothing of this name.",
    413: f"The body is over {MAX_BODY_BYTES} bytes.",
    429: "Too many images wait already. Retry-After says in how many seconds there will be room.",
    500: "Something failed inside; the log has it under the request's id.",
    501: "This is not served, and the error says what is instead.",
    503: "The server is stopping. Retry-After says when to ask again.",
    504: "The images were not done in the time that a request has.",
}
_DRAWING_ERRORS = (400, 413, 429, 500, 503, 504)

_STREAMED = "With `stream` the answer is server-sent events. A comment, `: ka`, comes where nothing else is to be said."
_DALLE = (
    "The body is read as JSON whatever its content type says; unknown fields are passed over, and null is as good as leaving "
    f"a field out. {_STREAMED}"
)


def api_operations(settings: Settings) -> list[Operation]:
    """List the operations as the server is set: so many images a request, with keys or without."""
    has_keys = bool(settings.api_keys)
    drawn = "The images; with `stream`, the events that lead to them."
    classic_drawn = Reply(
        drawn,
        {JSON: DalleAnswer},
        events={
            "queued": QueuedEvent,
            "progress": ProgressEvent,
            "preview": PreviewEvent,
            "image": ImageEvent,
            "done": DoneEvent,
            "error": ClassicErrorBody,
        },
    )
    openai_drawn = Reply(
        drawn,
        {JSON: ImagesAnswer},
        events={
            "image_generation.partial_image": PartialImageEvent,
            "image_generation.completed": CompletedEvent,
            "error": OpenAIErrorEvent,
        },
    )

    def replies(path: str, good: Mapping[int, Reply], *errors: int, locked: bool = True) -> dict[int, Reply]:
        shape: type[BaseModel] = OpenAIErrorBody if is_openai_path(path) else ClassicErrorBody
        statuses = sorted({*errors, 500, *([401] if has_keys and locked else [])})
        return {**good, **{status: Reply(_ERRORS[status], {JSON: shape}) for status in statuses}}

    generations, models = "/v1/images/generations", "/v1/models"
    return [
        Operation(
            "post",
            generations,
            _OPENAI,
            "Draw what a prompt says",
            replies(generations, {200: openai_drawn}, *_DRAWING_ERRORS),
            description=_STREAMED,
            asked=images_request_model(settings.max_images),
        ),
        *(
            Operation("post", path, _OPENAI, f"{what}: not served", replies(path, {}, 501))
            for path, what in (("/v1/images/edits", "Edit an image"), ("/v1/images/variations", "Vary an image"))
        ),
        Operation(
            "get",
            models,
            _OPENAI,
            "List the model that is loaded",
            replies(models, {200: Reply("A list of one.", {JSON: ModelList})}),
        ),
        Operation(
            "get",
            f"{models}/{{model_id}}",
            _OPENAI,
            "Describe the model that is loaded",
            replies(models, {200: Reply("The model.", {JSON: ModelCard})}, 404),
            parameters={"model_id": "its name, in any case"},
        ),
        Operation(
            "get",
            "/images/{name}",
            _OPENAI,
            "Fetch an image that was answered as a URL",
            replies(
                "/images",
                {200: Reply("The image.", {f"image/{name}": None for name in ("png", "jpeg", "webp")})},
                404,
                locked=False,
            ),
            description=f"Works for {settings.url_ttl} seconds, and needs no key.",
            parameters={"name": "from the URL"},
            needs_key=False,
        ),
        *(
            Operation(
                "post",
                path,
                _CLASSIC,
                "Draw what a text says",
                replies(path, {200: classic_drawn}, *_DRAWING_ERRORS),
                description=_DALLE,
                asked=dalle_request_model(settings.max_images),
            )
            for path in ("/dalle", "/generate")
        ),
        Operation(
            "get",
            "/",
            _CLASSIC,
            "Say that the server is there",
            replies("/", {200: Reply("hello world", {"text/plain": None})}, locked=False),
            needs_key=False,
        ),
        *(
            Operation(
                "get",
                path,
                _WATCHING,
                summary,
                replies(path, {200: Reply(good, {JSON: HealthAnswer}), 503: Reply(bad, {JSON: HealthAnswer})}, locked=False),
                needs_key=False,
            )
            for path, summary, good, bad in (
                ("/health/live", "Say whether the server lives", "It does.", "Only another start can help."),
                ("/health/ready", "Say whether new work is taken", "It is.", "It is not, for now or for good."),
            )
        ),
        Operation(
            "get",
            "/metrics",
            _WATCHING,
            "Show the server's numbers for Prometheus",
            replies(
                "/metrics", {200: Reply("Prometheus's text format.", {"text/plain": None})}, locked=not settings.open_metrics
            ),
            needs_key=not settings.open_metrics,
        ),
    ]
