from __future__ import annotations

import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient

from consts import RESTART_SECONDS
from dalle_model import Cancelled, DalleModel, DeadlineExceeded, EngineClosed, GenerationFailed, QueueFull
from server import create_app
from server.settings import Settings


def test_an_unknown_path_is_404_in_json(client: FlaskClient) -> None:
    answer = client.get("/dall-e")
    assert answer.status_code == 404
    assert answer.get_json()["error"] == {
        "message": "There is nothing at /dall-e. Images are drawn at POST /dalle.",
        "field": None,
    }


def test_a_wrong_method_is_405_in_json_and_says_what_is_allowed(client: FlaskClient) -> None:
    answer = client.get("/dalle")
    assert answer.status_code == 405
    assert answer.get_json()["error"]["message"] == "/dalle does not take GET."
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


@pytest.mark.parametrize(
    "failure", [RuntimeError("secret"), GenerationFailed("secret"), KeyError("secret"), MemoryError("secret")]
)
def test_an_internal_error_says_no_more_than_the_requests_id(
    app: Flask, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    def fail() -> str:
        raise failure

    app.add_url_rule("/fail", view_func=fail)
    answer = app.test_client().get("/fail")
    error = answer.get_json()["error"]
    assert answer.status_code == 500
    assert error["request_id"] == answer.headers["X-Request-Id"]
    assert error["request_id"] in error["message"]
    assert "secret" not in answer.text
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_info[1] for record in logged if record.exc_info] == [failure]


def test_a_closed_model_is_503(settings: Settings) -> None:
    model = DalleModel("tiny")
    client = create_app(model, settings).test_client()
    model.close()
    answer = client.post("/dalle", data=b'{"text": "a red circle"}')
    assert answer.status_code == 503
    assert "stopping" in answer.get_json()["error"]["message"]
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("failure", "status", "retry_after"),
    [
        (QueueFull(17), 429, "17"),
        (EngineClosed("closed"), 503, str(RESTART_SECONDS)),
        (DeadlineExceeded("too late"), 504, None),
        (Cancelled("gone"), 499, None),
    ],
)
def test_what_a_caller_can_act_on_says_when(app: Flask, failure: Exception, status: int, retry_after: str | None) -> None:
    def fail() -> str:
        raise failure

    app.add_url_rule("/fail", view_func=fail)
    answer = app.test_client().get("/fail")
    assert answer.status_code == status
    assert answer.headers.get("Retry-After") == retry_after
    assert answer.get_json()["error"]["message"].endswith(".")
