"""The examples in docs/api.md work against the real server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.routing import Rule

from server.api.operation import operation_of
from tests.end_to_end.server_process import ROOT, ServerProcess

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
COMMANDS = {
    "sh": ["bash", "-euo", "pipefail", "-c"],
    "python": [sys.executable, "-c"],
    "js": ["node", "--input-type=module", "-e"],
}
# Files of the playground, and addresses that redirect.
PARTS_OF_THE_PAGE = {"/docs/", "/playground/", "/playground/<name>"}


@dataclass(frozen=True)
class Example:
    """A fenced block, and the heading above it."""

    heading: str
    language: str
    code: str


def examples() -> list[Example]:
    found = []
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        found += [
            Example(heading, *block) for block in re.findall(r"^```(sh|python|js)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        ]
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"{example.heading} {example.language}")
def test_an_example_runs(example: Example, server: ServerProcess, tmp_path: Path) -> None:
    for language, program, package in (("js", "node", "nodejs"), ("sh", "curl", "curl")):
        if example.language == language and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {package}")
    code = re.sub(r"(http://)?localhost:8000", server.url, example.code)
    run = subprocess.run([*COMMANDS[example.language], code], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    if example.language == "sh":
        assert run.stdout or any(file.stat().st_size for file in tmp_path.iterdir())


def is_documented(app: Flask, rule: Rule) -> bool:
    """Return whether a route has examples: not the second names of others, nor what A1111's clients ask for beside drawing."""
    if rule.rule.startswith("/sdapi/"):
        return rule.rule == "/sdapi/v1/txt2img"
    is_page = rule.endpoint.startswith(("docs.", "playground."))
    return is_page or operation_of(app.view_functions[rule.endpoint]) is not None


def test_every_route_has_an_example_in_each_language(app: Flask) -> None:
    documented: dict[tuple[str, str], set[str]] = {}
    for example in examples():
        for method, path in re.findall(r"`(GET|POST) ([^`]+)`", example.heading):
            documented.setdefault((method, path), set()).add(example.language)
    routes = {
        (method, re.sub(r"<\w+:", "<", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule not in PARTS_OF_THE_PAGE and is_documented(app, rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {route: set(COMMANDS) for route in routes} == documented
