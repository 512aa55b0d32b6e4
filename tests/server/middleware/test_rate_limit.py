"""The rate limit, counted in memory and in a real Redis."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from server.api.operation import operation_of
from server.config.settings import Settings
from server.middleware.rate_limit import draws, why_storage_is_unusable
from tests.conftest import MakeClient
from tests.end_to_end.callers import eventually

KEY, OTHER = "a-key-of-the-page", "a-key-of-the-bot"
ROUTES = ["/dalle", "/generate", "/v1/images/generations", "/images/generations", "/sdapi/v1/txt2img"]
AZURE = "/openai/deployments/dall-e-3/images/generations"


def ask(client: FlaskClient, path: str = "/dalle", **more: Any) -> Any:
    """Ask for an image with a body that is refused, because a refusal costs nothing and counts like a drawing."""
    return client.post(path, data=b"{}", **more)


@pytest.mark.parametrize("path", [*ROUTES, AZURE])
def test_every_drawing_route_counts_and_is_refused_in_its_own_form(make_client: MakeClient, path: str) -> None:
    client = make_client(rate_limit="2 per minute")
    assert [ask(client, path).status_code for _ in range(2)] == [400, 400]
    answer = ask(client, path)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    body, words = answer.get_json(), "for each caller is 2 per minute"
    if path.startswith("/sdapi"):
        assert words in body["detail"]
    elif path in ROUTES[:2]:
        assert words in body["error"]["message"]
    else:
        assert (body["error"]["type"], body["error"]["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert words in body["error"]["message"]


def test_routes_share_the_limit_and_others_are_free(make_client: MakeClient) -> None:
    client = make_client(rate_limit="1 per hour; 3 per day")
    assert ask(client, ROUTES[0]).status_code == 400
    assert ask(client, ROUTES[2]).status_code == 429
    assert [client.get(path).status_code for path in ("/", "/v1/models", "/metrics", "/sdapi/v1/options")] == [200] * 4
    assert client.options("/dalle").status_code == 200


def test_each_caller_has_a_limit_of_its_own(make_client: MakeClient) -> None:
    client = make_client(rate_limit="1 per hour", api_key=(KEY, OTHER))
    wrong = ask(client, headers={"X-API-Key": "a-key-of-nobody"})
    first, again, other = (ask(client, headers={"X-API-Key": key}) for key in (KEY, KEY, OTHER))
    assert [answer.status_code for answer in (wrong, first, again, other)] == [401, 400, 429, 400]
    metrics = client.get("/metrics", headers={"X-API-Key": KEY}).text
    assert 'dalle_requests_refused_total{limit="rate"} 1.0' in metrics
    assert 'dalle_requests_refused_total{limit="caller"} 0.0' in metrics
    assert KEY not in metrics

    client = make_client(rate_limit="1 per hour")
    addresses = ("192.0.2.1", "192.0.2.1", "192.0.2.2")
    assert [ask(client, environ_base={"REMOTE_ADDR": each}).status_code for each in addresses] == [400, 429, 400]


def test_behind_a_trusted_proxy_the_caller_is_who_the_proxy_names(make_client: MakeClient) -> None:
    client = make_client(rate_limit="1 per hour", trust_proxy=True)
    named = ("192.0.2.1", "192.0.2.2", "192.0.2.1")
    assert [ask(client, headers={"X-Forwarded-For": each}).status_code for each in named] == [400, 400, 429]


def test_a_page_may_read_the_refusal(make_client: MakeClient) -> None:
    client = make_client(rate_limit="1 per hour")
    ask(client)
    answer = ask(client, headers={"Origin": "https://play.example"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (429, "*")


def test_every_operation_that_can_be_refused_draws(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        if operation is not None:
            assert draws(rule.rule) == (429 in operation.errors), rule.rule


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Yield a running Redis and its address."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("needs redis-server or valkey-server")
    where = tmp_path / "socket"
    command = [program, "--port", "0", "--unixsocket", str(where), "--save", "", "--requirepass", "hush-hush"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            assert eventually(where.exists)
            yield process, f"redis+unix://:hush-hush@{where}"
        finally:
            process.kill()


def test_servers_count_together_in_redis_and_each_by_itself_without_it(
    make_client: MakeClient, redis: tuple[subprocess.Popen[bytes], str], caplog: pytest.LogCaptureFixture
) -> None:
    process, address = redis
    settings = Settings(rate_limit="2 per hour", rate_limit_storage=address)
    assert why_storage_is_unusable(settings) is None
    one, other = (make_client(rate_limit="2 per hour", rate_limit_storage=address) for _ in range(2))
    with caplog.at_level(logging.DEBUG):
        assert [ask(client).status_code for client in (one, other, one, other)] == [400, 400, 429, 429]
        process.kill()
        process.wait()
        assert [ask(other).status_code for _ in range(3)] == [400, 400, 429]
    assert "Rate limit storage unreachable" in caplog.text
    assert "hush" not in caplog.text
    assert "does not answer" in str(why_storage_is_unusable(settings))
