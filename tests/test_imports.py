"""Who may import whom: one direction between the parts of the project, and no circle anywhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

from dalle_model import DalleModel

ROOT = Path(__file__).parents[1]
PARTS = ("app", "benchmarks", "cluster", "consts", "dalle_model", "draw", "engine", "host", "server", "training", "utils")
FILES = [ROOT / f"{part}.py" for part in PARTS if (ROOT / f"{part}.py").exists()] + [
    path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))
]

COMPUTING = {"torch", "min_dalle", "openvino", "numpy", "safetensors", "huggingface_hub"}
SERVING = {"flask", "flask_cors", "werkzeug", "waitress", "pydantic", "prometheus_client"}

# A part -> the parts of the project that it may import, and the libraries that it may not.
MAY_IMPORT: Mapping[str, tuple[set[str], set[str]]] = {
    "consts": (set(), COMPUTING | SERVING | {"PIL"}),
    "utils": ({"consts"}, COMPUTING | SERVING),
    "host": (set(), COMPUTING | SERVING | {"PIL"}),
    "engine": ({"consts", "host"}, SERVING),
    "dalle_model": ({"consts", "engine", "draw"}, SERVING),
    "draw": ({"consts", "utils", "host", "engine"}, COMPUTING | SERVING),
    "cluster": ({"consts", "host", "dalle_model", "engine"}, COMPUTING | SERVING),
    "server": ({"consts", "utils", "host", "dalle_model"}, COMPUTING),
    "app": ({"consts", "host", "dalle_model", "server", "cluster"}, COMPUTING),
    "training": ({"consts", "utils", "host", "dalle_model", "engine"}, SERVING),
    "benchmarks": ({"consts", "utils", "host", "dalle_model", "engine", "server", "training", "cluster"}, set()),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, inside functions and for types only too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path} imports relatively"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [name for name in inside if name in MODULES]
            yield from submodules
            if len(submodules) < len(inside):
                yield node.module


GRAPH = {name: set(imports_of(path)) for name, path in MODULES.items()}


def room_of(module: str) -> str:
    """Return the package of a module: `server.api` for what is in it, `engine.runners.native` for what is in that."""
    depth = 3 if module.startswith("engine.runners.") and (ROOT / module.replace(".", "/")).parent.name != "runners" else 2
    parts = module.split(".")
    is_package = MODULES[module].name == "__init__.py"
    return ".".join(parts[: min(depth, len(parts) if is_package else len(parts) - 1)])


def is_inside(room: str, other: str) -> bool:
    """Return whether one of two packages is the other, or holds it."""
    return f"{room}.".startswith(f"{other}.") or f"{other}.".startswith(f"{room}.")


def circle_in(graph: Mapping[str, Iterable[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("part", PARTS)
def test_imports_point_one_way(part: str) -> None:
    parts, libraries = MAY_IMPORT[part]
    found = {(module, name.split(".")[0]) for module in MODULES if module.split(".")[0] == part for name in GRAPH[module]}
    assert found, f"there is no {part}"
    forbidden = (set(PARTS) - parts - {part}) | libraries
    assert {(module, name) for module, name in found if name in forbidden} == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert sum(len(names & MODULES.keys()) for names in GRAPH.values()) > 100
    assert circle_in({module: names & MODULES.keys() for module, names in GRAPH.items()}) == []


@pytest.mark.parametrize("part", ["server", "engine"])
def test_no_package_imports_itself_by_way_of_others(part: str) -> None:
    """Packages at the same level: what is in `server.api` may import `server.images`, or the other way round, but not both."""
    rooms: dict[str, set[str]] = {}
    for module in MODULES:
        if module.startswith(f"{part}.") and (own := room_of(module)) != part:
            imported = {room_of(name) for name in GRAPH[module] if name.startswith(f"{part}.") and name in MODULES}
            rooms.setdefault(own, set()).update(room for room in imported - {part} if not is_inside(room, own))
    assert len(rooms) >= 3
    assert circle_in(rooms) == []


def test_importing_app_loads_no_torch() -> None:
    """So that a bad setting is told at once."""
    code = "import app, sys; print(sorted({'torch', 'min_dalle', 'openvino', 'ray'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr


def child(code: str) -> str:
    """Return what a Python process prints, with the models of the tests in `MODELS`."""
    code = f"from pathlib import Path\nMODELS = Path({str(ROOT / 'tests' / 'models')!r})\n{code}"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_start_loads_no_compiler() -> None:
    """So that it takes a second less: torch imports its compiler for some operations on the meta device."""
    code = "from dalle_model import DalleModel; DalleModel('tiny', models_root=MODELS).close()"
    for _ in ("converting the model", "with the converted one"):
        assert child(f"{code}; import sys; print('torch._dynamo' in sys.modules)") == "False\n"


@pytest.mark.skipif(find_spec("openvino") is None, reason="without OpenVINO, torch computes, or encodes prompts")
def test_a_start_with_a_converted_model_loads_no_torch() -> None:
    """So that it takes half the time and memory."""
    draw = """
import sys
sys.modules["torch"] = None  # importing it is an error
from dalle_model import DalleModel
with DalleModel("tiny", models_root=MODELS, device="cpu") as model:
    print(model.generate_images("a red circle", seed=1)[0].size, {"min_dalle", "huggingface_hub"} & sys.modules.keys())
"""
    DalleModel("tiny", models_root=ROOT / "tests" / "models", device="cpu").close()  # converts the model, if no test has yet
    assert child(draw) == "(256, 256) set()\n"
