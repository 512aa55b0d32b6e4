from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flask import Flask, Response
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from dalle_model import DalleModel
from server import create_app
from server.settings import Settings


def samples(client: FlaskClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(answer.text)
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}


def requests_counted(client: FlaskClient) -> dict[tuple[str, str], float]:
    found = ((name, dict(labels), value) for (name, labels), value in samples(client).items())
    return {(labels["route"], labels["status"]): value for name, labels, value in found if name == "dalle_http_requests_total"}


def test_requests_are_counted_by_route_and_status(client: FlaskClient) -> None:
    client.get("/")
    client.get("/")
    client.post("/dalle", data=b"{}")
    client.post("/dalle", data=b'{"text": "a red circle"}')
    assert requests_counted(client) == {("/", "200"): 2, ("/dalle", "400"): 1, ("/dalle", "200"): 1}
    assert requests_counted(client)["/metrics", "200"] == 1


def test_no_caller_makes_new_labels(client: FlaskClient) -> None:
    for path in ("/a", "/b?c", "/dalle/x", "/%0A"):
        client.get(path)
    client.open("/", method="BREW")
    client.get("/dalle")
    assert requests_counted(client) == {("none", "404"): 4, ("none", "405"): 2}


def test_the_time_of_a_request_is_measured(client: FlaskClient) -> None:
    client.post("/dalle", data=b'{"text": "a red circle"}')
    found = samples(client)
    route = (("route", "/dalle"),)
    assert found["dalle_http_request_duration_seconds_count", route] == 1
    assert 0.01 < found["dalle_http_request_duration_seconds_sum", route] < 300


def test_a_streamed_answer_counts_at_its_end(app: Flask) -> None:
    counted: list[dict[tuple[str, str], float]] = []

    def parts() -> Iterator[str]:
        counted.append(requests_counted(app.test_client()))
        yield "part"

    app.add_url_rule("/parts", view_func=lambda: Response(parts()))
    app.test_client().get("/parts", buffered=True)
    counted.append(requests_counted(app.test_client()))
    assert [("/parts", "200") in numbers for numbers in counted] == [False, True]


def test_two_apps_count_for_themselves(client: FlaskClient, tiny_model: DalleModel, settings: Settings) -> None:
    client.get("/")
    assert requests_counted(create_app(tiny_model, settings).test_client()) == {}


def test_the_process_is_measured_too(client: FlaskClient) -> None:
    assert samples(client)["process_resident_memory_bytes", ()] > 2**20


def test_metrics_need_a_key_where_that_is_asked_for(tiny_model: DalleModel, settings: Settings) -> None:
    locked = replace(settings, api_key=("a-key-of-the-page",))
    assert create_app(tiny_model, locked).test_client().get("/metrics").status_code == 200
    client = create_app(tiny_model, replace(locked, open_metrics=False)).test_client()
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer a-key-of-the-page"}).status_code == 200
