"""Dependencies have exact versions, and no data from outside can run code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted({*ROOT.glob("*.py"), *ROOT.glob("[!.]*/**/*.py")} - set(ROOT.glob("tests/**/*.py")))
# Names whose use lets data, or a hub, run code. `pickle` is allowed for the name of its error only.
FORBIDDEN = {"trust_remote_code", "allow_pickle", "Unpickler", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and name of every name, import, keyword and attribute, the latter with its object."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg is not None:
            yield node.value.lineno, node.arg
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None)
            yield from ((node.lineno, f"{module}.{alias.name}" if module else alias.name) for alias in node.names)


def faults_in(source: str) -> list[tuple[int, str]]:
    """Return the line and name of each forbidden use in a source."""
    tree = ast.parse(source)
    found = [
        (line, name)
        for line, name in names_in(tree)
        if name in FORBIDDEN or (re.match(r"_?pickle\.", name) and name != "pickle.UnpicklingError") or name == "torch.hub"
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in {"eval", "exec"}:
            found.append((node.lineno, called))
        if called == "torch.load":
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if given.get("weights_only") != "True":
                found.append((node.lineno, "torch.load"))
    return found


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt", "requirements-cluster.txt"])
def test_every_requirement_is_of_one_version(file: str) -> None:
    lines = [re.split("[#;]", line)[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    wanted = [line for line in lines if line and line != "-r requirements.txt"]
    assert wanted
    assert [line for line in wanted if not re.fullmatch(r"[A-Za-z0-9._-]+(?:\[\w+\])?==[0-9][A-Za-z0-9.]*", line)] == []


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 100


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_data_runs_code(path: Path) -> None:
    assert faults_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "pickle.loads(data)",
        "from pickle import loads",
        "import dill",
        "numpy.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "torch.hub.load('a/b', 'c')",
        "eval(text)",
    ],
)
def test_the_check_finds(source: str) -> None:
    assert faults_in(source) != []
