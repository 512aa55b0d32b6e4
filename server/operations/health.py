"""Say whether the server lives and takes work: `GET /health/live` and `GET /health/ready`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response
from pydantic import BaseModel

if TYPE_CHECKING:
    from dalle_model import DalleModel, EngineState


class HealthAnswer(BaseModel):
    """Say how the server is, and if it is not well, why."""

    status: str
    reason: str | None = None


def health_routes(model: DalleModel, step_timeout: float) -> Blueprint:
    """Build the health routes for a model; a step that runs longer than `step_timeout` seconds is taken to hang."""
    blueprint = Blueprint("health", __name__, url_prefix="/health")

    @blueprint.get("/live")
    def live() -> tuple[Response, int]:
        """Answer 503 once only another start can help."""
        return _answer("alive", why_not_alive(model.state, step_timeout))

    @blueprint.get("/ready")
    def ready() -> tuple[Response, int]:
        """Answer 503 while no new work is taken; nobody is answered at all before the model is loaded and warm."""
        return _answer("ready", why_not_ready(model.state, step_timeout))

    return blueprint


def why_not_alive(state: EngineState, step_timeout: float) -> str | None:
    """Say in a sentence why nothing can be drawn any more; None where it can."""
    if not state.is_alive:
        return "The engine has stopped."
    if state.seconds_in_step > step_timeout:
        return f"A step has been running for {state.seconds_in_step:.0f} s: it hangs."
    return None


def why_not_ready(state: EngineState, step_timeout: float) -> str | None:
    """Say in a sentence why no new work is taken; None where it is."""
    if state.is_draining:
        return "The server is stopping."
    return why_not_alive(state, step_timeout)


def _answer(status: str, reason: str | None) -> tuple[Response, int]:
    answer = HealthAnswer(status=status if reason is None else f"not {status}", reason=reason)
    response = Response(answer.model_dump_json(exclude_none=True), mimetype="application/json")
    return response, 200 if reason is None else 503
