from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator

import pytest
from flask import Flask, Response

from server.config.settings import Settings
from server.operations.logs import configure_logging
from tests.conftest import MakeClient


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_in_text_an_event_is_a_line_with_time_level_id_and_name(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    app.test_client().get("/", headers={"X-Request-Id": "mine"})
    [line] = lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO    mine dalle\.requests: GET / 200 in \d+ ms", line)


def test_in_json_an_event_is_an_object(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    app.test_client().get("/nothing", headers={"X-Request-Id": "mine"})
    [line] = lines(capsys)
    event = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", event.pop("time"))
    assert re.fullmatch(r"GET /nothing 404 in \d+ ms", event.pop("message"))
    assert isinstance(event.pop("milliseconds"), int)
    assert event == {
        "level": "info",
        "logger": "dalle.requests",
        "request_id": "mine",
        "method": "GET",
        "path": "/nothing",
        "status": 404,
    }


def test_in_json_a_traceback_is_part_of_its_event(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> str:
        raise RuntimeError("from a test")

    app.add_url_rule("/fail", view_func=fail)
    configure_logging("info", "json")
    answer = app.test_client().get("/fail")
    failed, answered = (json.loads(line) for line in lines(capsys))
    assert failed["exception"].endswith("RuntimeError: from a test")
    assert failed["request_id"] == answered["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("hidden", ["%0AFAKE line", "%1B[2J", "%C2%85x", "%E2%80%A8x", "%7Fx"])
def test_control_characters_of_a_path_do_not_reach_the_log(
    app: Flask, log_format: str, hidden: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", log_format)
    app.test_client().get(f"/a{hidden}")
    written = capsys.readouterr().err
    assert len(written.splitlines()) == 1
    assert written.removesuffix("\n").isprintable()


def test_a_streamed_answer_is_logged_at_its_end_with_its_id(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    def parts() -> Iterator[str]:
        logging.getLogger("dalle.test").info("in the middle")
        yield "part"

    app.add_url_rule("/parts", view_func=lambda: Response(parts()))
    configure_logging("info")
    app.test_client().get("/parts", headers={"X-Request-Id": "mine"}, buffered=True)
    middle, end = lines(capsys)
    assert "mine dalle.test: in the middle" in middle
    assert "mine dalle.requests: GET /parts 200 in" in end


@pytest.mark.parametrize("level", ["debug", "info"])
def test_prompts_are_not_logged(
    make_client: MakeClient, settings: Settings, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name of a saved folder, which has the prompt in it, is not logged either."""
    client = make_client(save_to_disk=True)
    configure_logging(level)
    assert client.post("/dalle", data=b'{"text": "a secret circle"}').status_code == 200
    settings.output_dir.rename(settings.output_dir.with_name("moved"))
    settings.output_dir.write_text("a file in the folder's place")
    assert client.post("/dalle", data=b'{"text": "a secret circle"}').status_code == 200
    written = capsys.readouterr().err
    assert "could not be saved" in written
    assert "secret" not in written


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_prompts_are_logged_if_the_setting_says_so(
    make_client: MakeClient, log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", log_format)
    prompt = 'a "red"\ncircle'
    make_client(log_prompts=True).post("/dalle", json={"text": prompt})
    [line] = lines(capsys)
    if log_format == "json":
        assert json.loads(line)["prompt"] == prompt
    else:
        assert line.endswith(r' prompt="a \"red\"\ncircle"')


def test_waitress_errors_and_python_warnings_are_logged_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    logging.getLogger("waitress").error("Exception while serving %s", "/")
    warnings.warn("from a library", stacklevel=1)
    served, warned = (json.loads(line) for line in lines(capsys))
    assert (served["logger"], served["message"]) == ("waitress", "Exception while serving /")
    assert (warned["logger"], warned["level"]) == ("py.warnings", "warning")
