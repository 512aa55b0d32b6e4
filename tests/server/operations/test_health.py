from __future__ import annotations

from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from dalle_model import DalleModel, EngineState
from server import create_app
from server.config.settings import Settings
from server.operations.health import why_not_alive, why_not_ready


@pytest.fixture
def state(tiny_model: DalleModel) -> EngineState:
    return tiny_model.state


def test_a_loaded_model_is_alive_and_ready(client: FlaskClient) -> None:
    assert client.get("/health/live").get_json() == {"status": "alive"}
    assert client.get("/health/ready").get_json() == {"status": "ready"}


def test_a_closed_model_is_neither_alive_nor_ready_and_draws_nothing(settings: Settings) -> None:
    with DalleModel("tiny") as model:
        client = create_app(model, settings).test_client()
        model.drain()
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503
    live = client.get("/health/live")
    assert live.status_code == 503
    assert live.get_json() == {"status": "not alive", "reason": "The engine has stopped."}
    answer = client.post("/dalle", data=b'{"text": "a red circle"}')
    assert answer.status_code == 503
    assert "stopping" in answer.get_json()["error"]["message"]


def test_a_long_step_is_alive_until_its_timeout(state: EngineState) -> None:
    assert why_not_alive(replace(state, seconds_in_step=59.0), 60) is None
    assert "61 s" in str(why_not_alive(replace(state, seconds_in_step=61.0), 60))
    assert why_not_ready(replace(state, seconds_in_step=61.0), 60)
