"""The form of README.md, docs and the model card: short lines, links and paths that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "models" / "tiny" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and images within the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", prose(page))
    return [target for pair in targets for target in pair if target and "://" not in target]


def test_there_are_pages_with_links() -> None:
    assert len(PAGES) >= 14 and len(DECISIONS) >= 8
    assert sum(len(links(page)) for page in PAGES) >= 60


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_are_under_120_characters(page: Path) -> None:
    assert [line for line in prose(page).splitlines() if len(line) >= 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_that_are_named_exist(page: Path) -> None:
    for path in re.findall(r"`((?:benchmarks|deploy|docs|draw|engine|host|models|server|tests|training)/[\w./-]*)`", prose(page)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_a_decision_has_the_three_sections_on_one_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    number = page.name.partition("-")[0]
    assert re.findall(r"^#+ .*$", text, re.MULTILINE)[1:] == ["## Context", "## Decision", "## Consequences"]
    assert text.startswith(f"# {number}. ")
    assert len(text.splitlines()) <= 55
