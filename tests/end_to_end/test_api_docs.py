"""Run what docs/api.md says, line by line, against the real server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from tests.end_to_end.server_process import ROOT, ServerProcess

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
COMMANDS = {
    "sh": ["bash", "-euo", "pipefail", "-c"],
    "python": [sys.executable, "-c"],
    "js": ["node", "--input-type=module", "-e"],
}
# What the page's own address leads to, and one with a slash that leads to it.
PARTS_OF_THE_PAGE = {"/docs/", "/playground/", "/playground/<name>"}


@dataclass(frozen=True)
class Line:
    """Hold a fenced block, and the heading it stands under."""

    heading: str
    language: str
    code: str


def lines() -> list[Line]:
    found = []
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        found += [
            Line(heading, *block) for block in re.findall(r"^```(sh|python|js)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        ]
    return found


@pytest.mark.parametrize("line", lines(), ids=lambda line: f"{line.heading} {line.language}")
def test_a_line_does_what_it_says(line: Line, server: ServerProcess, tmp_path: Path) -> None:
    for language, program, package in (("js", "node", "nodejs"), ("sh", "curl", "curl")):
        if line.language == language and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {package}")
    code = re.sub(r"(http://)?localhost:8000", server.url, line.code)
    run = subprocess.run([*COMMANDS[line.language], code], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    if line.language == "sh":
        assert run.stdout or any(file.stat().st_size for file in tmp_path.iterdir())


def test_every_route_has_a_line_in_each_language(app: Flask) -> None:
    documented: dict[tuple[str, str], set[str]] = {}
    for line in lines():
        for method, path in re.findall(r"`(GET|POST) ([^`]+)`", line.heading):
            documented.setdefault((method, path), set()).add(line.language)
    routes = {
        (method, re.sub(r"<\w+:", "<", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule not in PARTS_OF_THE_PAGE
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {route: set(COMMANDS) for route in routes} == documented
