from __future__ import annotations

from pathlib import Path

from server.settings import FLAGS

README = Path(__file__).parents[1] / "README.md"


def rows_of_flags() -> list[list[str]]:
    """Read the rows of README's table `| flag | environment | default | what it does |`, without their backticks."""
    lines = README.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip().replace("`", "") for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if row[0].startswith("--") and row[0].strip("-")]


def test_the_table_of_flags_is_the_parsers() -> None:
    assert [row[:3] for row in rows_of_flags()] == [[flag.option, flag.variable, flag.default_text] for flag in FLAGS]


def test_every_flag_is_explained() -> None:
    assert all(row[3] for row in rows_of_flags())
