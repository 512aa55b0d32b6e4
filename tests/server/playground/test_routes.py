from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from consts import EXAMPLE_PROMPTS, ModelSize
from dalle_model import DalleModel
from tests.conftest import MakeClient

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "server" / "playground" / "static"
MAX_BYTES = 60_000


def references_of(text: str) -> set[str]:
    """Return the page's files that a text refers to: below `playground/` in HTML, below `./` in scripts."""
    return set(re.findall(r'"(?:playground|\.)/([\w.-]+)"', text))


def test_every_file_that_the_page_refers_to_is_served(client: FlaskClient) -> None:
    names = references_of(client.get("/playground").text)
    assert {"main.js", "page.css", "icon.svg"} <= names
    for name in sorted(names):
        answer = client.get(f"/playground/{name}")
        assert answer.status_code == 200, name
        kind = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
        assert answer.headers["Content-Type"] == kind[Path(name).suffix]
        if name.endswith(".js"):
            assert all(client.get(f"/playground/{other}").status_code == 200 for other in references_of(answer.text))


def test_every_file_is_referred_to() -> None:
    named = set().union(*(references_of(path.read_text(encoding="utf-8")) for path in STATIC.iterdir()))
    assert {path.name for path in STATIC.iterdir()} | {"model.json"} == named | {"page.html"}


def test_the_page_is_small_and_refers_to_no_other_host() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
    assert sum(len(text.encode()) for text in files.values()) < MAX_BYTES
    for name, text in files.items():
        # An SVG file's namespace is a name, not an address.
        assert re.findall(r"(?:https?:)?//[\w-]+\.[\w.-]+", text.replace('xmlns="http://www.w3.org/2000/svg"', "")) == [], name


def test_the_page_follows_its_own_content_policy(client: FlaskClient) -> None:
    answer = client.get("/playground")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|javascript:", answer.text) == []
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/playground", "/playground/main.js"])
def test_an_unchanged_file_is_not_sent_again(client: FlaskClient, path: str) -> None:
    first = client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["page.html", "no.js", "..%2fplayground.py", "../playground.py", "%2e%2e/settings.py"])
def test_no_other_file_is_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/playground/{name}").status_code == 404


def test_a_trailing_slash_redirects_to_the_page(client: FlaskClient) -> None:
    answer = client.get("/playground/")
    assert answer.status_code == 308
    behind_a_proxy = urljoin("https://host/drawing/playground/", answer.headers["Location"])
    assert behind_a_proxy == "https://host/drawing/playground"


def test_the_page_gets_the_models_facts_and_the_servers_limits(make_client: MakeClient, tiny_model: DalleModel) -> None:
    facts = make_client(max_images=3).get("/playground/model.json").get_json()
    assert facts["model"] == "Tiny"
    assert "MODEL=Mini" in facts["about"]
    assert facts["examples"] == list(EXAMPLE_PROMPTS[ModelSize.TINY])
    assert facts["sampling"] == asdict(tiny_model.sampling)
    assert (facts["max_images"], facts["formats"], facts["img_format"]) == (3, ["jpeg", "png", "webp"], "jpeg")


def test_tinys_examples_are_those_of_its_card() -> None:
    card = " ".join((ROOT / "models" / "tiny" / "README.md").read_text(encoding="utf-8").split())
    [prompts] = re.findall(r"Prompts to try: (.*?)\. ##", card)
    assert tuple(re.findall(r'"(.*?)"', prompts)) == EXAMPLE_PROMPTS[ModelSize.TINY]


@pytest.mark.parametrize("size", ModelSize)
def test_every_model_has_examples(size: ModelSize) -> None:
    assert len(EXAMPLE_PROMPTS[size]) >= 4
