from __future__ import annotations

import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import Unauthorized
from werkzeug.test import TestResponse

from consts import MAX_BODY_BYTES, RESTART_SECONDS
from dalle_model import Cancelled, DeadlineExceeded, EngineClosed, GenerationFailed, InvalidRequest, QueueFull


def answer_to(failure: Exception, app: Flask, path: str = "/fail") -> TestResponse:
    """Return an app's answer on a route that raises `failure`."""

    def fail() -> str:
        raise failure

    app.add_url_rule(path, view_func=fail)
    return app.test_client().get(path)


def test_an_unknown_path_is_404_in_json(client: FlaskClient) -> None:
    answer = client.get("/dall-e")
    assert answer.status_code == 404
    assert answer.get_json()["error"] == {
        "message": "There is nothing at /dall-e. Images are drawn at POST /dalle.",
        "field": None,
    }


def test_a_long_path_is_repeated_in_part(client: FlaskClient) -> None:
    message = client.get(f"/{'x' * 5000}").get_json()["error"]["message"]
    assert message == f"There is nothing at /{'x' * 99}.... Images are drawn at POST /dalle."


def test_a_wrong_method_is_405_in_json_with_the_allowed_methods(client: FlaskClient) -> None:
    answer = client.get("/dalle")
    assert answer.status_code == 405
    assert answer.get_json()["error"]["message"] == "/dalle does not take GET: use POST."
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


@pytest.mark.parametrize(
    "failure", [RuntimeError("secret"), GenerationFailed("secret"), KeyError("secret"), MemoryError("secret")]
)
def test_an_internal_error_reveals_only_the_requests_id(app: Flask, caplog: pytest.LogCaptureFixture, failure: Exception) -> None:
    answer = answer_to(failure, app)
    error = answer.get_json()["error"]
    assert answer.status_code == 500
    assert error["request_id"] == answer.headers["X-Request-Id"]
    assert error["request_id"] in error["message"]
    assert "secret" not in answer.text
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_info[1] for record in logged if record.exc_info] == [failure]


@pytest.mark.parametrize(
    ("failure", "status", "retry_after"),
    [
        (QueueFull(17), 429, "17"),
        (EngineClosed("closed"), 503, str(RESTART_SECONDS)),
        (DeadlineExceeded("too late"), 504, None),
        (Cancelled("gone"), 499, None),
    ],
)
def test_a_temporary_error_has_retry_after(app: Flask, failure: Exception, status: int, retry_after: str | None) -> None:
    answer = answer_to(failure, app)
    assert answer.status_code == status
    assert answer.headers.get("Retry-After") == retry_after
    assert answer.get_json()["error"]["message"].endswith(".")


OPENAI_FAILURES = [
    (InvalidRequest("n", "n is bad"), 400, "invalid_request_error", "n", "invalid_value", {}),
    (Unauthorized(), 401, "invalid_request_error", None, "invalid_api_key", {}),
    (QueueFull(17), 429, "rate_limit_error", None, "queue_full", {"Retry-After": "17"}),
    (GenerationFailed("secret"), 500, "server_error", None, None, {}),
    (KeyError("secret"), 500, "server_error", None, None, {}),
    (EngineClosed("closed"), 503, "server_error", None, "stopping", {"Retry-After": str(RESTART_SECONDS)}),
    (DeadlineExceeded("too late"), 504, "server_error", None, "deadline_exceeded", {"X-Should-Retry": "false"}),
]


@pytest.mark.parametrize(("failure", "status", "kind", "param", "code", "headers"), OPENAI_FAILURES)
def test_under_v1_every_error_has_openais_shape(
    app: Flask, failure: Exception, status: int, kind: str, param: str | None, code: str | None, headers: dict[str, str]
) -> None:
    answer = answer_to(failure, app, "/v1/fail")
    assert answer.status_code == status
    assert answer.headers["X-Request-Id"]
    assert headers.items() <= dict(answer.headers).items()
    error = answer.get_json()["error"]
    assert error == {"message": error["message"], "type": kind, "param": param, "code": code}
    assert error["message"] and "secret" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "message"),
    [
        ("GET", "/v1", 404, "not_found", "POST /v1/images/generations"),
        ("GET", "/v1/chat/completions", 404, "not_found", "POST /v1/images/generations"),
        ("GET", "/v1/images/generations", 405, "method_not_allowed", "does not take GET: use POST"),
        ("DELETE", "/v1/models", 405, "method_not_allowed", "does not take DELETE: use GET"),
        ("POST", "/v1/images/generations", 413, "body_too_large", "1048576 bytes"),
    ],
)
def test_under_v1_flasks_own_errors_have_openais_shape(
    client: FlaskClient, method: str, path: str, status: int, code: str, message: str
) -> None:
    answer = client.open(path, method=method, data=b" " * (MAX_BODY_BYTES + 1) if status == 413 else None)
    assert answer.status_code == status
    assert answer.headers["X-Request-Id"]
    error = answer.get_json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, code)
    assert message in error["message"]
