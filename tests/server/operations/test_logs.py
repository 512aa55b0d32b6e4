from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask, Response

from dalle_model import DalleModel
from server import create_app
from server.config.settings import Settings
from server.operations.logs import configure_logging


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def prompting_app(tiny_model: DalleModel, settings: Settings) -> Flask:
    return create_app(tiny_model, replace(settings, log_prompts=True))


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_for_people_an_event_is_a_line_with_time_level_id_and_name(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    app.test_client().get("/", headers={"X-Request-Id": "mine"})
    [line] = lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO    mine dalle\.requests: GET / 200 in \d+ ms", line)


def test_for_programs_an_event_is_an_object(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_traceback_is_inside_its_object(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> str:
        raise RuntimeError("as asked")

    app.add_url_rule("/fail", view_func=fail)
    configure_logging("info", "json")
    answer = app.test_client().get("/fail")
    failed, answered = (json.loads(line) for line in lines(capsys))
    assert failed["exception"].endswith("RuntimeError: as asked")
    assert failed["request_id"] == answered["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("hidden", ["%0AFAKE line", "%1B[2J", "%C2%85x", "%E2%80%A8x", "%7Fx"])
def test_no_path_makes_a_line_or_moves_the_cursor(
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
    tiny_model: DalleModel, settings: Settings, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor where they are part of the name of a saved folder."""
    client = create_app(tiny_model, replace(settings, save_to_disk=True)).test_client()
    configure_logging(level)
    assert client.post("/dalle", data=b'{"text": "a secret circle"}').status_code == 200
    settings.output_dir.rename(settings.output_dir.with_name("moved"))
    settings.output_dir.write_text("a file in the folder's place")
    assert client.post("/dalle", data=b'{"text": "a secret circle"}').status_code == 200
    written = capsys.readouterr().err
    assert "could not be saved" in written
    assert "secret" not in written


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_prompts_are_logged_where_asked_for(prompting_app: Flask, log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", log_format)
    prompt = 'a "red"\ncircle'
    prompting_app.test_client().post("/dalle", json={"text": prompt})
    [line] = lines(capsys)
    if log_format == "json":
        assert json.loads(line)["prompt"] == prompt
    else:
        assert line.endswith(r' prompt="a \"red\"\ncircle"')


def test_waitress_and_pythons_warnings_are_in_the_log_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    logging.getLogger("waitress").error("Exception while serving %s", "/")
    warnings.warn("a library's", stacklevel=1)
    served, warned = (json.loads(line) for line in lines(capsys))
    assert (served["logger"], served["message"]) == ("waitress", "Exception while serving /")
    assert (warned["logger"], warned["level"]) == ("py.warnings", "warning")
