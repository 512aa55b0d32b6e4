"""Health checks: `GET /health/live` and `GET /health/ready`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response
from pydantic import BaseModel

from dalle_model import FORKED
from server.api.operation import JSON, OPERATIONS, Operation, Reply, described

if TYPE_CHECKING:
    from dalle_model import DalleModel, EngineState


class HealthAnswer(BaseModel):
    """The server's health, with the reason if it is not well."""

    status: str
    reason: str | None = None


def health_routes(model: DalleModel, step_timeout: float) -> Blueprint:
    """Build the health routes. A step that runs longer than `step_timeout` seconds counts as hanging."""
    blueprint = Blueprint("health", __name__, url_prefix="/health")

    @blueprint.get("/live")
    @described(_operation("Check that the server is alive", "It is.", "It must be restarted."))
    def live() -> tuple[Response, int]:
        """Answer 503 once only a restart can help."""
        return _answer("alive", why_not_alive(model.state, step_timeout))

    @blueprint.get("/ready")
    @described(_operation("Check that new requests are accepted", "They are.", "They are not, for now or for good."))
    def ready() -> tuple[Response, int]:
        """Answer 503 while new requests are refused. Before the model is loaded and warm, the port is closed."""
        return _answer("ready", why_not_ready(model.state, step_timeout))

    return blueprint


def why_not_alive(state: EngineState, step_timeout: float) -> str | None:
    """Return the reason, as a sentence, why nothing can be drawn any more; None if all is well."""
    if state.is_forked:
        return f"{FORKED[0].upper()}{FORKED[1:]}."
    if not state.is_alive:
        return "The engine has stopped."
    if state.seconds_in_step > step_timeout:
        return f"A step has been running for {state.seconds_in_step:.0f} s: it hangs."
    return None


def why_not_ready(state: EngineState, step_timeout: float) -> str | None:
    """Return the reason, as a sentence, why new requests are refused; None if they are accepted."""
    if state.is_draining:
        return "The server is stopping."
    return why_not_alive(state, step_timeout)


def _operation(summary: str, good: str, bad: str) -> Operation:
    return Operation(OPERATIONS, summary, {200: Reply(good, {JSON: HealthAnswer}), 503: Reply(bad, {JSON: HealthAnswer})})


def _answer(status: str, reason: str | None) -> tuple[Response, int]:
    answer = HealthAnswer(status=status if reason is None else f"not {status}", reason=reason)
    response = Response(answer.model_dump_json(exclude_none=True), mimetype="application/json")
    return response, 200 if reason is None else 503
