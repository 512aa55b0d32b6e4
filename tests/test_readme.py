from __future__ import annotations

import re
from pathlib import Path

from server.config.settings import FLAGS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_flags_is_the_parsers() -> None:
    rows = re.findall(r"^\| `(--\w+)` \| `([^`]+)` \| \S.* \|$", README, re.MULTILINE)
    assert rows == [(flag.option, flag.default_text) for flag in FLAGS]
    assert len(rows) >= 29


def test_each_flag_has_the_variable_that_it_says() -> None:
    [(variable, option)] = re.findall(r"such as\s`(DALLE_\w+)` for\s`(--\w+)`", README)
    assert (option, variable) in [(flag.option, flag.variable) for flag in FLAGS]
    assert all(flag.variable == f"DALLE_{flag.option.removeprefix('--').upper()}" for flag in FLAGS)


def test_the_pythons_that_it_names_are_those_that_are_tested() -> None:
    [(oldest, newest)] = re.findall(r"^Python 3\.(\d+) to 3\.(\d+) ", README, re.MULTILINE)
    tested = " ".join(f"3.{minor}" for minor in range(int(oldest), int(newest) + 1))
    assert f"for version in {tested}; do" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'target-version = "py3{oldest}"' in settings and f'python_version = "3.{oldest}"' in settings
    for page in ("requirements.txt", "docs/installing.md"):
        assert f"Python 3.{oldest} to 3.{newest}" in (ROOT / page).read_text(encoding="utf-8")


def test_what_comes_before_the_figures_fits_in_two_screens() -> None:
    lines = README.partition("\n## Figures\n")[0].splitlines()
    assert 60 < len(lines) <= 120
