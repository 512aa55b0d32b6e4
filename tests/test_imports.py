"""Hold the direction of imports: app -> server, dalle_model -> engine."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPUTING = {"engine", "torch", "min_dalle", "openvino", "numpy", "safetensors", "huggingface_hub"}

# Who may not import what; utils and consts are everybody's, so they know nobody.
FORBIDDEN = {
    "server": COMPUTING | {"app", "training"},
    "engine": {"app", "server", "dalle_model", "training", "flask", "werkzeug", "waitress", "pydantic"},
    "dalle_model.py": {"app", "server", "training", "flask", "werkzeug", "waitress", "pydantic"},
    "draw_command.py": COMPUTING | {"app", "server", "training", "flask", "werkzeug", "waitress", "pydantic"},
    "app.py": COMPUTING | {"training"},
    "utils.py": COMPUTING | {"app", "server", "dalle_model", "training", "flask", "werkzeug", "waitress", "pydantic"},
    "consts.py": COMPUTING
    | {"app", "server", "dalle_model", "training", "utils", "flask", "werkzeug", "waitress", "pydantic", "PIL"},
}


def imports_of(path: Path) -> Iterator[str]:
    """Give the top-level name of every import in a file, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_point_one_way(part: str) -> None:
    files = sorted((ROOT / part).rglob("*.py")) or [ROOT / part]
    found = {(path.relative_to(ROOT).as_posix(), name) for path in files for name in imports_of(path)}
    assert {(path, name) for path, name in found if name in FORBIDDEN[part]} == set()


def test_importing_app_loads_no_torch() -> None:
    """So that a bad setting is told at once."""
    code = "import app, sys; print(sorted({'torch', 'min_dalle', 'openvino'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_a_start_loads_no_compiler() -> None:
    """So that it takes a second less: torch imports its compiler for some operations on the meta device."""
    code = "from dalle_model import DalleModel; DalleModel('tiny').close(); import sys; print('torch._dynamo' in sys.modules)"
    for _ in ("converting the model", "with the converted one"):
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert run.stdout == "False\n"


def test_nothing_reports_our_use_of_openvino() -> None:
    listing = "[name for name in sys.modules if 'telemetry_stub' in name]"
    code = f"from engine.runners.openvino import compiled; import sys; print({listing})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "['openvino.tools.ovc.telemetry_stub']\n", "what OpenVINO calls where its reporting is not installed"
