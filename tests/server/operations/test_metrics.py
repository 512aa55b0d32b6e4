from __future__ import annotations

import math
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from consts import VERSION
from dalle_model import DalleModel
from server import create_app
from server.config.settings import Settings
from server.operations.metrics import Metrics
from tests.conftest import MakeClient
from tests.end_to_end.callers import eventually


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


def test_no_request_creates_new_labels(client: FlaskClient) -> None:
    for path in ("/a", "/b?c", "/dalle/x", "/%0A"):
        client.get(path)
    client.open("/", method="BREW")
    client.get("/dalle")
    assert requests_counted(client) == {("none", "404"): 4, ("none", "405"): 2}


def test_the_duration_of_a_request_is_measured(client: FlaskClient) -> None:
    client.post("/dalle", data=b'{"text": "a red circle"}')
    found = samples(client)
    route = (("route", "/dalle"),)
    assert found["dalle_http_request_duration_seconds_count", route] == 1
    assert 0.01 < found["dalle_http_request_duration_seconds_sum", route] < 300


def test_a_streamed_answer_is_counted_at_its_end(app: Flask) -> None:
    counted: list[dict[tuple[str, str], float]] = []

    def parts() -> Iterator[str]:
        counted.append(requests_counted(app.test_client()))
        yield "part"

    app.add_url_rule("/parts", view_func=lambda: Response(parts()))
    app.test_client().get("/parts", buffered=True)
    counted.append(requests_counted(app.test_client()))
    assert [("/parts", "200") in numbers for numbers in counted] == [False, True]


def test_each_app_counts_its_own_requests(client: FlaskClient, make_client: MakeClient) -> None:
    client.get("/")
    assert requests_counted(make_client()) == {}


def test_metrics_need_a_key_if_the_setting_says_so(make_client: MakeClient) -> None:
    keys = ("a-key-of-the-page",)
    assert make_client(api_key=keys).get("/metrics").status_code == 200
    client = make_client(api_key=keys, open_metrics=False)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer a-key-of-the-page"}).status_code == 200


@pytest.fixture(scope="module")
def measured() -> Iterator[FlaskClient]:
    """Yield a client of an app whose model reports each measurement to it."""
    metrics = Metrics()
    with DalleModel("tiny", max_batch_size=4, max_queue=8, observer=metrics) as model:
        yield create_app(model, Settings(), metrics).test_client()


def is_idle(client: FlaskClient) -> bool:
    """Return whether the last step is over, which is a moment after the caller has its images."""
    found = samples(client)
    return found["dalle_slots_in_use", ()] == found["dalle_step_running_seconds", ()] == 0


def test_the_engines_work_is_counted_and_timed(measured: FlaskClient) -> None:
    before = samples(measured)
    measured.post("/dalle", data=b'{"text": "a red circle", "num_images": 3}')
    assert eventually(lambda: is_idle(measured))
    after = samples(measured)
    grown = {name: after[name, ()] - before[name, ()] for name, labels in after if not labels and name.startswith("dalle_")}
    assert grown["dalle_images_drawn_total"] == 3
    assert grown["dalle_queue_wait_seconds_count"] == grown["dalle_image_duration_seconds_count"] == 3
    assert 256 <= grown["dalle_step_duration_seconds_count"] <= 300
    assert grown["dalle_image_duration_seconds_sum"] > grown["dalle_step_duration_seconds_sum"] > 0
    assert grown["dalle_images_failed_total"] == grown["dalle_images_cancelled_total"] == 0


def test_the_engines_state_is_reported(measured: FlaskClient) -> None:
    assert eventually(lambda: is_idle(measured))
    found = {name: value for (name, labels), value in samples(measured).items() if not labels}
    assert found["dalle_engine_up"] == 1
    assert found["dalle_engine_draining"] == found["dalle_queue_images"] == 0
    assert (found["dalle_slots"], found["dalle_queue_limit_images"]) == (4, 8)


def test_the_memory_of_linked_images_is_reported(measured: FlaskClient) -> None:
    body = {"prompt": "a red circle", "response_format": "url", "output_format": "png"}
    link = measured.post("/v1/images/generations", json=body).get_json()["data"][0]["url"]
    image = measured.get(urlsplit(link).path).data
    assert samples(measured)["dalle_linked_images_bytes", ()] == len(image) > 0


def test_the_use_of_the_disk_budget_is_reported_also_after_a_restart(make_client: MakeClient, settings: Settings) -> None:
    assert samples(make_client(save_to_disk=True))["dalle_disk_budget_used_ratio", ()] == 0
    client = make_client(save_to_disk=True, max_disk_mb=1)
    assert samples(client)["dalle_disk_budget_used_ratio", ()] == 0
    client.post("/dalle", json={"text": "a red circle", "num_images": 2})
    saved = sum(path.stat().st_size for path in settings.output_dir.rglob("*.jpeg"))
    used = samples(client)["dalle_disk_budget_used_ratio", ()] * 2**20
    assert 0 < saved <= used <= saved + 3 * 4096  # whole blocks of 4 KiB, and one for the folder
    restarted = make_client(save_to_disk=True, max_disk_mb=1)
    assert samples(restarted)["dalle_disk_budget_used_ratio", ()] * 2**20 == used


def test_an_unlimited_queue_is_reported_as_infinite(client: FlaskClient) -> None:
    assert samples(client)["dalle_queue_limit_images", ()] == math.inf


def test_the_model_and_versions_are_reported(client: FlaskClient) -> None:
    [labels] = [dict(labels) for name, labels in samples(client) if name == "dalle_server_info"]
    assert labels["model"] == "Tiny"
    assert labels["version"] == VERSION
    assert labels["torch"] and labels["python"]


def test_names_and_units_follow_prometheus_conventions(measured: FlaskClient) -> None:
    for family in text_string_to_metric_families(measured.get("/metrics").text):
        assert family.documentation, family.name
        if family.name.startswith("process_"):
            continue
        assert re.fullmatch(r"dalle(_[a-z]+)+", family.name)
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
