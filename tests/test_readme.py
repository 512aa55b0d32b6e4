from __future__ import annotations

import re
from pathlib import Path

from server.config.settings import FLAGS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def rows_of_flags() -> list[list[str]]:
    """Read the rows of README's table `| flag | environment | default | what it does |`, without their backticks."""
    lines = README.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip().replace("`", "") for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if row[0].startswith("--") and row[0].strip("-")]


def test_the_table_of_flags_is_the_parsers() -> None:
    assert [row[:3] for row in rows_of_flags()] == [[flag.option, flag.variable, flag.default_text] for flag in FLAGS]


def test_every_flag_is_explained() -> None:
    assert all(row[3] for row in rows_of_flags())


def test_the_pythons_that_it_names_are_those_that_are_tested() -> None:
    named = re.findall(r"^Python 3\.(\d+) to 3\.(\d+);", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) == 1
    oldest, newest = map(int, named[0])
    tested = " ".join(f"3.{minor}" for minor in range(oldest, newest + 1))
    assert f"for version in {tested}; do" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'target-version = "py3{oldest}"' in settings and f'python_version = "3.{oldest}"' in settings
    assert f"# Each of these has wheels for Python 3.{oldest} to 3.{newest}." in (ROOT / "requirements.txt").read_text(
        encoding="utf-8"
    )
