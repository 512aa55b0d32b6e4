"""docs/operations.md explains every metric, and names only metrics, flags and variables that exist."""

from __future__ import annotations

import re
from pathlib import Path

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from server.config.settings import FLAGS

PAGE = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_table_of_metrics_is_the_servers(client: FlaskClient) -> None:
    families = text_string_to_metric_families(client.get("/metrics").text)
    served = {f"{family.name}_total" if family.type == "counter" else family.name: family.type for family in families}
    explained = dict(re.findall(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \| \S.* \|$", PAGE, re.MULTILINE))
    assert explained == served
    assert len(explained) >= 26


def test_it_names_only_metrics_that_are_served(client: FlaskClient) -> None:
    served = set(re.findall(r"\bdalle_[a-z_]+", client.get("/metrics").text))
    named = set(re.findall(r"\bdalle_[a-z_]+", PAGE)) - {"dalle_"}
    assert len(named) >= 20
    assert named <= served


def test_it_names_only_settings_that_exist() -> None:
    options = set(re.findall(r"(?<![\w-])--[a-z]+(?:_[a-z]+)+", PAGE))
    variables = set(re.findall(r"\bDALLE_[A-Z_]+", PAGE))
    assert len(options) >= 15 and len(variables) >= 2
    assert options <= {flag.option for flag in FLAGS}
    assert variables <= {flag.variable for flag in FLAGS}
