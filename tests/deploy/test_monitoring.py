"""The alerts and the dashboard use metrics that the server exports, and each alert fires when it should, and only then."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from server.config.settings import Settings
from tests.conftest import MakeClient
from tests.deploy.test_files import tool

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
MONITORING = ROOT / "deploy" / "monitoring"
[GROUP] = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))["groups"]
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in GROUP["rules"]}
[JOB] = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

KEYWORDS = {"and", "or", "unless", "on", "by", "bool", "offset"}
INSIDE = r'\{(?:[^}"]|"[^"]*")*\}'  # a selector's labels, whose values may have braces
BY_LABELS = r"\b(?:by|on) *\(([^)]*)\)"

# What changes in a healthy server's numbers (one each 15 s, as promtool writes series), and the alert that fires after 15 min.
FIRING = {
    "the process is gone": ({"up": "0x60"}, "DalleDown"),
    "the engine has stopped": ({"dalle_engine_up": "0x60"}, "DalleDown"),
    "a step hangs": ({"dalle_step_running_seconds": f"{Settings().step_timeout + 1}x60"}, "DalleStepHangs"),
    "images wait and none is finished": ({"dalle_queue_images": "3x60"}, "DalleNoImage"),
    "an image is drawn and never finished": ({"dalle_slots_in_use": "1x60"}, "DalleNoImage"),
    "the queue is full": ({"dalle_queue_images": "60x60", "dalle_images_drawn_total": "0+9x60"}, "DalleQueueFull"),
    "an image failed": ({"dalle_images_failed_total": "0x50 1x9"}, "DalleImagesFail"),
    "requests fail": ({"dalle_http_requests_total 500": "0+1x60", "dalle_http_requests_total 200": "0+9x60"}, "DalleErrors"),
    "the disk is full": ({"dalle_save_failures_total": "0x50 1x9"}, "DalleSavesFail"),
    "it starts again and again": ({"process_start_time_seconds": "10x20 500x20 800x20"}, "DalleRestarts"),
    "a caller's share refuses": ({"dalle_requests_refused_total caller": "0+6x60"}, "DalleCallersRefused"),
    "the oldest images go soon": ({"dalle_disk_budget_used_ratio": "0.95x60"}, "DalleDiskBudgetNearlyUsed"),
}
QUIET = {
    "nothing happens": {},
    "it is busy": {"dalle_queue_images": "40x60", "dalle_slots_in_use": "32x60", "dalle_images_drawn_total": "0+9x60"},
    "images are drawn, but seldom": {"dalle_slots_in_use": "1x60", "dalle_images_drawn_total": "1x45 2x15"},
    "images wait since 3 minutes": {"dalle_queue_images": "0x47 3x12", "dalle_slots_in_use": "0x47 3x12"},
    "it has not answered for a minute": {"up": "1x56 0x3"},
    "it was started again": {"up": "1x40 0x4 1x15", "process_start_time_seconds": "10x40 _x4 700x15"},
    "a caller was refused for a while": {"dalle_requests_refused_total rate": "0x20 0+60x10 600x30"},
    "the queue refuses for a while": {"dalle_requests_refused_total queue": "0+6x60"},
    "a failure was long ago": {"dalle_images_failed_total": "0x10 1x50"},
    "one request in a hundred fails": {"dalle_http_requests_total 500": "0+1x60", "dalle_http_requests_total 200": "0+99x60"},
    "the oldest images are removed": {"dalle_disk_budget_used_ratio": "0.95x60", "dalle_saved_requests_removed_total": "8x60"},
}


@pytest.fixture(scope="module")
def promtool() -> str:
    return tool("promtool", "prometheus")


@pytest.fixture
def exported(make_client: MakeClient) -> list[Sample]:
    """Return a real server's numbers after a drawn image and a refused request."""
    client = make_client()
    for body in ({"text": "a red circle"}, {"text": ""}):
        client.post("/dalle", json=body)
    families = text_string_to_metric_families(client.get("/metrics").text)
    return [sample for family in families for sample in family.samples]


def metrics_in(query: str) -> set[str]:
    """Return the metrics that a PromQL query names."""
    bare = re.sub(rf'{INSIDE}|{BY_LABELS}|\[[^]]*\]|offset \w+|"[^"]*"', " ", query)
    return set(re.findall(r"\b[a-z_]\w*\b(?! *\()", bare)) - KEYWORDS


def labels_in(query: str) -> set[str]:
    """Return the labels that a PromQL query selects or groups by."""
    selected = re.findall(r'(\w+) *(?:=~|!~|!=|=) *"', " ".join(re.findall(INSIDE, query)))
    grouped = re.findall(r"\w+", " ".join(re.findall(BY_LABELS, query)))
    return {*selected, *grouped}


def test_the_names_in_a_query_are_found() -> None:
    query = 'sum by (le, x) (rate(a_total{b=~"{c}", d!="e"}[5m])) / on (f) g offset 5m and time() - h{i="j"} > 1'
    assert metrics_in(query) == {"a_total", "g", "h"}
    assert labels_in(query) == {"le", "x", "b", "d", "f", "i"}


@pytest.mark.parametrize("queries", [list(EXPRESSIONS.values()), QUERIES], ids=["alerts", "dashboard"])
def test_every_query_names_metrics_and_labels_that_are_exported(queries: list[str], exported: list[Sample]) -> None:
    names = {sample.name for sample in exported} | {"up"}
    labels = {label for sample in exported for label in sample.labels} | {"job", "instance"}
    assert all(metrics_in(query) for query in queries)
    assert set().union(*map(metrics_in, queries)) - names == set()
    assert set().union(*map(labels_in, queries)) - labels == set()


def test_the_dashboard_has_valid_queries_and_no_overlapping_panels(promtool: str, tmp_path: Path) -> None:
    ready = [re.sub(r"\$__(?:rate_interval|range)", "5m", query).replace("$instance", ".*") for query in QUERIES]
    assert not any("$" in query for query in ready)
    rules = [{"record": f"query_{index}", "expr": query} for index, query in enumerate(ready)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    assert_passes(promtool, "check", "rules", str(tmp_path / "queries.yml"))
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [(x, y) for place in places for x in across(place["x"], place["w"]) for y in across(place["y"], place["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23
    assert all(f'job="{JOB["job_name"]}"' in query for query in QUERIES)
    [variable] = [each for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    metric, label = re.fullmatch(r"label_values\((\w+)\{.*\}, (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
    assert (metric, label, variable["name"]) == ("dalle_engine_up", "instance", "instance")


def test_prometheus_accepts_the_configuration_and_the_alerts(promtool: str) -> None:
    assert_passes(promtool, "check", "config", "--lint-fatal", str(MONITORING / "prometheus.yml"))


def test_each_alert_fires_when_it_should_and_only_then(promtool: str, exported: list[Sample], tmp_path: Path) -> None:
    explained = set(re.findall(r"^\| `(Dalle\w+)` \|", DOCS, re.MULTILINE))
    assert {alert for _, alert in FIRING.values()} == set(EXPRESSIONS) == explained
    cases = {**FIRING, **{name: (changes, None) for name, changes in QUIET.items()}}
    tests = [
        {
            "name": name,
            "interval": "15s",
            "input_series": list(series_of(exported, changes)),
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "15m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else [],
                }
            ],
        }
        for name, (changes, alert) in cases.items()
    ]
    whole = {"rule_files": [str(MONITORING / "alerts.yml")], "evaluation_interval": "15s", "tests": tests}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    assert_passes(promtool, "test", "rules", str(tmp_path / "tests.yml"))


def series_of(exported: list[Sample], changes: dict[str, str]) -> Iterable[dict[str, str]]:
    """Yield the series of a healthy server, which does nothing, with some changed; a status or limit follows the name."""
    left = {"dalle_queue_limit_images": "64x60", "up": "1x60"} | changes
    scraped = {"job": JOB["job_name"], "instance": JOB["static_configs"][0]["targets"][0]}
    for sample in [*exported, Sample("up", {}, 1)]:
        kind = sample.labels.get("status") or sample.labels.get("limit")
        name = f"{sample.name} {kind}" if kind else sample.name
        values = left.pop(name, f"{sample.value}x60")
        if not sample.name.endswith("_bucket"):
            labels = ",".join(f'{label}="{value}"' for label, value in {**sample.labels, **scraped}.items())
            yield {"series": f"{sample.name}{{{labels}}}", "values": values}
    for name, values in left.items():
        metric, status = name.split()
        labels = ",".join(f'{label}="{value}"' for label, value in {"route": "/dalle", "status": status, **scraped}.items())
        yield {"series": f"{metric}{{{labels}}}", "values": values}


def across(start: int, length: int) -> range:
    return range(start, start + length)


def assert_passes(*command: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
