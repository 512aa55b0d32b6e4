"""Hold docs/operations.md complete: a metric or a flag that is not explained there, or is not there any more, fails."""

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
    assert dict(re.findall(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \|", PAGE, re.MULTILINE)) == served


def test_what_it_names_is_there(client: FlaskClient) -> None:
    known = {name for line in client.get("/metrics").text.splitlines() for name in re.findall(r"dalle_[a-z_]+", line)}
    assert set(re.findall(r"\bdalle_[a-z_]+", PAGE)) - known - {"dalle_"} == set()
    flags = {flag.option for flag in FLAGS}
    assert set(re.findall(r"(?<![\w-])--[a-z]+(?:_[a-z]+)+", PAGE)) <= flags
    assert set(re.findall(r"\bDALLE_[A-Z_]+", PAGE)) <= {flag.variable for flag in FLAGS}


def test_its_links_lead_somewhere() -> None:
    headings = {re.sub(r"[^a-z0-9-]", "", heading.lower().replace(" ", "-")) for heading in re.findall(r"^## (.*)$", PAGE, re.M)}
    assert set(re.findall(r"\]\(#([a-z-]+)\)", PAGE)) <= headings
    for path in re.findall(r"`((?:deploy|tests|docs)/[\w./-]+)`", PAGE):
        assert (Path(__file__).parents[1] / path).exists(), path
